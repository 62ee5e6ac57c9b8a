"""fcunet_dask: nothing given but the patterns, or the vacuum probe too."""

import time
from dataclasses import replace

import dask
import numpy as np
import xarray as xr
from _serve import load, serve
from fcunet_dask import find_bragg_vectors
from fcunet_dask.pipeline import Settings, analyze, choose_detector

METHODS = {
    "default": ({}, True),
    "default, probe not given": ({}, False),
    "parabola": ({"subpixel": "parabola"}, True),
}
prepared = {}


def answer(folder, method, rows):
    patterns, image, _ = load(folder)
    options, given = METHODS[method]
    sizes = patterns.shape
    scan = xr.Dataset(
        {"pattern": (("scan_y", "scan_x", "q_y", "q_x"), patterns)},
        {
            n: np.arange(s, dtype=float)
            for n, s in zip(("q_y", "q_x"), sizes[2:], strict=True)
        },
    )
    for name in ("q_y", "q_x"):
        scan[name].attrs["units"] = "px"
    if given:
        scan["probe"] = (("q_y", "q_x"), image)
    settings = Settings(detector_options=options)
    if (folder, method) not in prepared:
        prepared[folder, method] = choose_detector(scan, settings)
    probe, detector = prepared[folder, method]
    scan = scan.isel(scan_y=slice(0, rows))
    with dask.config.set(scheduler="synchronous"):
        start = time.process_time()
        bragg = find_bragg_vectors(scan, detector).compute()
        detect = time.process_time() - start
        start = time.process_time()
        settings = replace(
            settings, reference=(slice(None), slice(0, round(0.25 * sizes[1])))
        )
        results, _ = analyze(bragg, probe, settings)
        results = results.compute()
        fit = time.process_time() - start
    vectors = np.concatenate([results["g1"], results["g2"]], axis=-1)
    return detect, fit, vectors.reshape(-1, 4)


serve(answer)
