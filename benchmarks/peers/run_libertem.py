"""LiberTEM-blobfinder: refinement around the points of a lattice that is given."""

import time

import libertem.api
import libertem_blobfinder.common.gridmatching as grid
import numpy as np
from _serve import load, serve
from libertem.executor.inline import InlineJobExecutor
from libertem_blobfinder.common.patterns import BackgroundSubtraction
from libertem_blobfinder.udf.refinement import run_refine

context = libertem.api.Context(executor=InlineJobExecutor(inline_threads=1))


def answer(folder, method, rows):
    """Fit the lattice too: `run_refine` does both in one pass."""
    patterns, _, about = load(folder)
    data = context.load("memory", data=patterns[:rows], sig_dims=2)
    radius = about["radius"]
    pattern = BackgroundSubtraction(
        radius=radius, search=1.6 * radius, radius_outer=1.4 * radius
    )
    start = time.process_time()
    result, _ = run_refine(
        context,
        data,
        zero=about["centre"],
        a=about["reference"][:2],
        b=about["reference"][2:],
        match_pattern=pattern,
        matcher=grid.Matcher(tolerance=3, min_weight=0.0, min_match=5),
        correlation="fast",
        match="fast",
        indices=np.asarray(about["indices"]),
        upsample=method == "upsample",
    )
    detect = time.process_time() - start
    vectors = np.concatenate([result["a"].data, result["b"].data], axis=-1)
    return detect, 0.0, vectors.reshape(-1, 4)


serve(answer)
