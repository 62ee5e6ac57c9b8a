"""The protocol between compare.py and a program: one JSON line asks, one answers.

A question names the folder of a scan (patterns.npy, probe.npy, about.json) and a method.
The answer holds CPU seconds of detection and of lattice fit; the lattice vectors
(n, 4: g1_y, g1_x, g2_y, g2_x, px; NaN where there are none) go to OUT.npy.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np


def load(folder):
    """Patterns (rows, columns, q_y, q_x), probe and what is known of the lattice."""
    folder = Path(folder)
    about = json.loads((folder / "about.json").read_text())
    about = {k: np.array(v) if isinstance(v, list) else v for k, v in about.items()}
    return np.load(folder / "patterns.npy"), np.load(folder / "probe.npy"), about


def serve(answer):
    """Answer questions with `answer(folder, method, rows)` until the input ends.

    `rows` limits the scan, for a warm-up. `answer` returns (seconds, seconds, vectors).
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        detect, fit, vectors = answer(
            question["folder"], question["method"], question["rows"]
        )
        np.save(question["out"], vectors)
        replies.write(json.dumps({"detect": detect, "fit": fit}) + "\n")
        replies.flush()
