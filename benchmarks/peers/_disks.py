"""The protocol between peers_disks.py and a program that finds disks.

IN.npz holds patterns (n, rows, columns), probes (n, rows, columns), radii (n), centers
(n, 2), px, and names of variants, all of them where there are none. OUT.npz gets names,
and rows (variant, pattern, y, x, intensity).
"""

import sys

import numpy as np


def answer(find, known):
    """Apply `find` to every pattern, by every variant that is asked for."""
    asked = np.load(sys.argv[1])
    names = [str(n) for n in asked["variants"]] or known
    rows = []
    for v, name in enumerate(names):
        for i, counts in enumerate(asked["patterns"]):
            probe = asked["probes"][i].astype(float)
            center = tuple(asked["centers"][i])
            found = find(
                counts.astype(np.float32), probe, asked["radii"][i], center, name
            )
            rows += [(v, i, *disk) for disk in zip(*found, strict=True)]
    np.savez(sys.argv[2], names=names, rows=np.reshape(rows, (-1, 5)))
