"""Processes that make batches."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from fcunet_dask.train.batches import batches
from fcunet_dask.train.data import DataRecipe, Source
from fcunet_dask.train.recipe import TrainRecipe

RECIPE = TrainRecipe(batch=2, steps=3, data=DataRecipe(size=32, crops=2))
ENDLESS = """
import sys
from fcunet_dask.train.batches import batches
from fcunet_dask.train.data import Source
from tests.train.test_batches import RECIPE

if __name__ == "__main__":
    for _ in batches(Source(sys.argv[1]), RECIPE, range(10**6), 1):
        print("made", flush=True)
"""


def test_batches_are_the_same_wherever_they_are_made(tiny_library):
    here = list(batches(Source(str(tiny_library)), RECIPE, range(3), 0))
    there = list(batches(Source(str(tiny_library)), RECIPE, range(3), 2))
    for (inputs, target), (others, other) in zip(here, there, strict=True):
        np.testing.assert_array_equal(target, other)
        for a, b in zip(inputs, others, strict=True):
            np.testing.assert_array_equal(a, b)


def children(pid):
    """Return the processes below one, as Linux tells them."""
    direct = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in direct]


def test_they_end_with_a_training_that_is_killed(tiny_library, tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    root = str(Path(__file__).parents[2])
    training = subprocess.Popen(
        [sys.executable, str(script), str(tiny_library)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert training.stdout.readline() == b"made\n"
    makers = children(training.pid)
    assert makers
    training.send_signal(signal.SIGKILL)
    training.wait()
    training.stdout.close()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/exe").exists() for pid in makers):
        assert time.monotonic() < deadline, "processes that make batches live on"
        time.sleep(0.1)
