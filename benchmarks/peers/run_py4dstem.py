"""py4DSTEM 0.14: template matching and lattice fit, as its tutorials do it."""

import time

import matplotlib.pyplot as plt
import numpy as np
import py4DSTEM
from _serve import load, serve

METHODS = {
    "default": {"subpixel": "multicorr", "upsample_factor": 16, "sigma_cc": 2},
    "poly": {"subpixel": "poly", "sigma_cc": 2},
    "poly, sigma_cc 0": {"subpixel": "poly", "sigma_cc": 0},
}


def answer(folder, method, rows):
    patterns, image, _ = load(folder)
    cube = py4DSTEM.DataCube(patterns[:rows])
    probe = py4DSTEM.Probe.from_vacuum_data(image.astype(float), threshold=0.02)
    radius, *centre = probe.measure_disk(plot=False)
    kernel = probe.get_kernel(
        "sigmoid", origin=tuple(centre), radii=(radius, 2 * radius)
    )
    edge = round(radius)
    start = time.process_time()
    bragg = cube.find_Bragg_disks(
        template=kernel,
        minPeakSpacing=1.6 * radius,
        edgeBoundary=edge,
        minRelativeIntensity=0.005,
        maxNumPeaks=70,
        **METHODS[method],
    )
    detect = time.process_time() - start
    start = time.process_time()
    bragg.measure_origin(
        center_guess=tuple(centre), score_method="intensity weighted distance"
    )
    bragg.fit_origin(fitfunction="plane", plot=False)
    bragg.calibration.set_QR_rotflip((0.0, False))
    bragg.setcal()
    strain = py4DSTEM.StrainMap(bragg)
    strain.choose_basis_vectors(
        minSpacing=1.6 * radius,
        minRelativeIntensity=0.001,
        maxNumPeaks=100,
        edgeBoundary=edge,
    )
    strain.fit_basis_vectors(max_peak_spacing=radius)
    unstrained = np.zeros(cube.data.shape[:2], bool)
    unstrained[:, : unstrained.shape[1] // 4] = True
    strain.get_strain(gvects=unstrained)
    fit = time.process_time() - start
    plt.close("all")
    lattice = strain.g1g2_map.data
    vectors = np.where(lattice[7] > 0, lattice[2:6], np.nan)
    return detect, fit, vectors.reshape(4, -1).T


serve(answer)
