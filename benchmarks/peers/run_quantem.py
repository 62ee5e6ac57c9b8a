"""quantem: batched torch detection on the CPU, lattice fit position by position.

Only its modules for detection and fit are loaded, without the package around them; the
basis is given, as its widgets for choosing it are interactive.
"""

import ast
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
from _serve import load, serve

torch.set_num_threads(1)
place = next(Path(p) / "quantem" for p in sys.path if (Path(p) / "quantem").is_dir())
place = place / "diffraction"


def module(name):
    """Load one file of quantem."""
    spec = importlib.util.spec_from_file_location(name, place / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def function(name, file):
    """Load one function of a file of quantem."""
    tree = ast.parse((place / f"{file}.py").read_text())
    tree.body = [n for n in tree.body if getattr(n, "name", "") == name]
    found = {"np": np, "NDArray": np.ndarray}
    exec(compile(tree, file, "exec"), found)
    return found[name]


disks = module("disk_detection")
fit_lattice_vectors = function("_fit_lattice_vectors", "bragg_vectors")


def answer(folder, method, rows):
    patterns, probe, about = load(folder)
    patterns = patterns[:rows].reshape(-1, *patterns.shape[2:])
    template = disks.template_fourier(
        disks.make_template(
            torch.as_tensor(probe), center=tuple(about["centre"]), subtract_mean=True
        )
    )
    step = max(1, 2_000_000 // patterns[0].size)
    start = time.process_time()
    found = []
    for i in range(0, len(patterns), step):
        batch = torch.as_tensor(patterns[i : i + step].astype(np.float32))
        found += disks.detect_disks_batch(
            batch,
            template,
            min_spacing=1.6 * about["radius"],
            edge_boundary=round(about["radius"]),
            subpixel=method,
            upsample_factor=16,
            max_num_peaks=70,
        )
    detect = time.process_time() - start
    start = time.process_time()
    vectors = lattices(found, about)
    return detect, time.process_time() - start, vectors


def lattices(found, about):
    """Index the disks on the given lattice and fit it, one position after another."""
    hk = about["indices"].astype(float)
    g = about["reference"].reshape(2, 2)
    ideal = about["centre"] + hk @ g
    reach = 0.25 * np.hypot(*g.T).min()
    vectors = np.full((len(found), 4), np.nan)
    for i, cell in enumerate(found):
        distance = np.hypot(*(cell[:, None, :2] - ideal).transpose(2, 0, 1))
        near = distance.argmin(1)
        ok = distance[np.arange(len(cell)), near] <= reach
        at = hk[near[ok]]
        beta, _ = fit_lattice_vectors(
            cell[ok, 0], cell[ok, 1], at[:, 0], at[:, 1], cell[ok, 2]
        )
        if beta is not None:
            vectors[i] = beta[1:].ravel()
    return vectors


serve(answer)
