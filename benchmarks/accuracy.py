"""Accuracy of the whole way from patterns to strain; the tables of docs/accuracy.md.

python benchmarks/accuracy.py [gain bound structure scintillator readout saturated
    gaas invariance]

Nothing is given but the patterns, and what is unstrained. FCUNET_DATA is the folder with
semi_experimental_GaAs110/ (default ../shared/data).
"""

import os
import sys
from functools import partial
from itertools import product
from pathlib import Path

import bound
import dask
import h5py
import numpy as np
import scans
import xarray as xr
from fcunet_dask import compute_strain, find_bragg_vectors, simulate_scan
from fcunet_dask.kernels.detector import point_spread
from fcunet_dask.lattice import given_lattice
from fcunet_dask.pipeline import Settings, analyze, choose_detector
from threadpoolctl import threadpool_limits

NAMES = ("xx", "yy", "xy")
DETECTORS = ("template", "fcunet", "fcunet_fine")
DATA = Path(os.environ.get("FCUNET_DATA", "../shared/data"))


def dataset(patterns):
    """Scan without any calibration, in px."""
    q = ("q_y", "q_x")
    scan = xr.Dataset({"pattern": (("scan_y", "scan_x", *q), patterns)})
    for name in q:
        axis = np.arange(scan.sizes[name], dtype=float)
        scan[name] = (name, axis, {"units": "px"})
    return scan


def analysed(scan, blocks=None, **changes):
    """Everything automatic: probe, detector, and results of `analyze`, in memory."""
    settings = Settings(**changes)
    probe, detector = choose_detector(scan, settings)
    if blocks is not None:
        scan = scan.chunk(scan_y=blocks[0], scan_x=blocks[1])
    bragg = find_bragg_vectors(scan, detector).compute()
    return probe, analyze(bragg, probe, settings)[0].compute()


def first_quarter(scan):
    """Region without strain of the scans in `scans`."""
    return (slice(None), slice(0, round(0.25 * scan.strain.shape[1])))


def strain_and_sigma(results):
    """Strain and its standard deviation (rows, columns, 3)."""
    strain = np.stack([results[f"strain_{n}"].values for n in NAMES], -1)
    sigma = np.stack([results[f"strain_{n}_std"].values for n in NAMES], -1)
    return strain, sigma


def share_within(error, sigma, factor):
    """Share of errors within `factor` standard deviations, in %."""
    ok = np.isfinite(error)
    return 100 * (np.abs(error[ok]) < factor * sigma[ok]).mean()


def gain():
    """Slope of recovered strain against the strain put in."""
    print("\n| generator | component | gain | ± |\n| --- | --- | --- | --- |")
    for make in (scans.own, scans.independent):
        scan = make(128, 0.0, shape=(32, 64), dose=1e6)
        _, results = analysed(dataset(scan.patterns), reference=first_quarter(scan))
        strain, _ = strain_and_sigma(results)
        rows = [(n, strain[..., i], scan.strain[..., i]) for i, n in enumerate(NAMES)]
        for name, found, true in [*rows, ("all", strain, scan.strain)]:
            slope, spread = _slope(true.ravel(), found.ravel())
            print(f"| {make.__name__} | {name} | {slope:.4f} | {spread:.4f} |")


def _slope(x, y):
    ok = np.isfinite(y)
    (slope, _), covariance = np.polyfit(x[ok], y[ok], 1, cov=True)
    return slope, np.sqrt(covariance[0, 0])


def noise_bound():
    """Noise of the strain of flat disks over the Cramér–Rao bound."""
    print("\n| e/pattern | background | fitted | disks of 26 | noise / 10⁻³ | bound / 10⁻³ "
          "| ratio xx, yy, xy | ratio |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for background in (0.0, 0.05):
        for dose in (1e3, 1e4, 1e5, 1e6):
            scan = scans.independent(128, 0.0, dose=dose, background=background)
            least = least_noise(scan, dose)
            try:
                _, results = analysed(
                    dataset(scan.patterns), reference=first_quarter(scan)
                )
            except Exception as error:  # noqa: BLE001 - a refusal is a row of the table
                print(f"| {dose:.0e} | {background:.2f} | {error} | | | | | |")
                continue
            error = strain_and_sigma(results)[0] - scan.strain
            noise = np.nanstd(error, axis=(0, 1))
            each = ", ".join(f"{r:.2f}" for r in noise / least)
            total = np.sqrt((noise**2).mean()), np.sqrt((least**2).mean())
            print(f"| {dose:.0e} | {background:.2f} "
                  f"| {100 * np.isfinite(error[..., 0]).mean():.0f} % "
                  f"| {results.n_indexed.values.mean():.1f} | {1e3 * total[0]:.3f} "
                  f"| {1e3 * total[1]:.3f} | {each} "
                  f"| {total[0] / total[1]:.2f} |", flush=True)  # fmt: skip


def least_noise(scan, dose):
    """Root mean square of the bound over some positions, (3,)."""
    profile = partial(scans.edge_profile, radius=scan.radius)
    g = scan.reference.reshape(2, 2)
    reach = 0.5 * np.hypot(*g[0])
    found = []
    for where in [(i, j) for i in range(0, 16, 4) for j in range(0, 32, 4)]:
        disks = zip(
            scan.indices, scan.electrons[where], scan.background[where], strict=True
        )
        found.append(
            bound.strain_bound(
                scan.reference, scan.origin[where], disks, profile, reach
            )
        )
    return np.sqrt(np.mean(np.square(found), axis=0))


def structure():
    """Errors and their bars against the structure inside the disks."""
    print("\n| generator | structure | RMSE, 10⁻³ | bias xx, yy, xy, 10⁻³ "
          "| within 1σ | within 2σ |\n| --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for make in (scans.own, scans.independent):
        for contrast in (0.0, 0.3, 0.6):
            scan = make(128, contrast, shape=(24, 32))
            _, results = analysed(dataset(scan.patterns), reference=first_quarter(scan))
            strain, sigma = strain_and_sigma(results)
            error = strain - scan.strain
            print(f"| {make.__name__} | {contrast} "
                  f"| {1e3 * np.sqrt(np.nanmean(error**2)):.2f} | {_means(error)} "
                  f"| {share_within(error, sigma, 1):.0f} % "
                  f"| {share_within(error, sigma, 2):.0f} % |", flush=True)  # fmt: skip


def _means(error):
    return ", ".join(f"{1e3 * m:+.2f}" for m in np.nanmean(error, axis=(0, 1)))


def gaas():
    """Measured disk interiors, exact truth, against the true unstrained lattice."""
    path = DATA / "semi_experimental_GaAs110" / "gaas_strained.h5"
    print("\n| counts | detector | disks | radius (11) | ε_xx bias ± scatter, % "
          "| ε_yy bias ± scatter, % | ε_xy bias ± scatter, % "
          "| within 1σ, 2σ | without bias |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with h5py.File(path) as file:
        about = file["truth"].attrs
        primitive = 0.5 * np.array(
            [
                [about["g220_px"], about["g002_px"]],
                [about["g220_px"], -about["g002_px"]],
            ]
        )
        true = np.stack([file["truth"][f"e{n}"][:] for n in NAMES], -1)
        for name, detector in product(("counts_2e4", "counts_1e6"), DETECTORS):
            probe, results = analysed(dataset(file[name][:]), detector=detector)
            strain, sigma = true_reference(results, primitive)
            error = strain - true
            bias, scatter = np.nanmean(error, (0, 1)), np.nanstd(error, (0, 1))
            cells = " | ".join(
                f"{100 * b:+.3f} ± {100 * s:.3f}"
                for b, s in zip(bias, scatter, strict=True)
            )
            print(f"| {name} | {detector} | {results.n_indexed.values.mean():.1f} "
                  f"| {probe.attrs['radius']:.2f} | {cells} "
                  f"| {_shares(error, sigma)} | {_shares(error - bias, sigma)} |",
                  flush=True)  # fmt: skip


def _shares(error, sigma):
    return ", ".join(f"{share_within(error, sigma, n):.0f} %" for n in (1, 2))


def true_reference(results, primitive):
    """Strain against a given unstrained lattice, in the basis that was found."""
    names = ("reference_g1", "reference_g2")
    found = np.stack([results[n].values[0] for n in names])
    g1, g2 = np.rint(found @ np.linalg.inv(primitive)) @ primitive
    strain = compute_strain(results, given_lattice(g1, g2, "px"))
    return strain_and_sigma(strain)


def invariance():
    """Print what must not matter: rotation, blocks, schedulers, the choice of basis."""
    print("\n| what changes | largest difference of a strain |\n| --- | --- |")
    scan = scans.own(128, 0.3, shape=(12, 16))
    data = dataset(scan.patterns)
    region = {"reference": first_quarter(scan)}
    with dask.config.set(scheduler="synchronous"):
        _, results = analysed(data, **region)
        start, _ = strain_and_sigma(results)
        g1, g2 = (results[f"basis_{n}"].values[0] for n in ("g1", "g2"))
        _, other = analysed(data, **region, g1=g1 + g2, g2=-g1)
        _report("basis g₁ + g₂, −g₁", other, start)
        _report("blocks 5 × 7", analysed(data, blocks=(5, 7), **region)[1], start)
    with dask.config.set(scheduler="threads"):
        _report("threads", analysed(data, blocks=(4, 4), **region)[1], start)
    rotated()


def _report(what, results, start):
    strain, _ = strain_and_sigma(results)
    print(f"| {what} | {np.nanmax(np.abs(strain - start)):.1e} |")


def rotated():
    """Mean strain that a rigid rotation of the lattice seems to make."""
    from fcunet_dask import simulate_scan  # noqa: PLC0415

    scan = simulate_scan(
        scan=(16, 32), strain=0.0, rotation=3.0, structure=0.0, dose=1e5, blocks=None
    )
    _, results = analysed(
        dataset(scan.pattern.values), reference=(slice(None), slice(0, 8))
    )
    strain, _ = strain_and_sigma(results)
    turned = np.abs(scan.true_rotation.values) > np.radians(2)
    mean = np.abs(strain[turned].mean(axis=0)).max()
    error = strain[turned].std() / np.sqrt(turned.sum())
    print(f"| rigid rotation by 2° to 3°, mean of {turned.sum()} positions "
          f"| {mean:.1e} (standard error {error:.1e}) |")  # fmt: skip


def scintillator():
    """Electrons that light many pixels of an integrating camera, 20 counts each."""
    print("\n| electrons | point spread σ, px | gain found "
          "| RMSE, 10⁻³ | within 1σ | within 2σ |\n"
          "| --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for dose, sigma in product((2e4, 1e6), (0.0, 0.6, 1.0, 1.4)):
        scan = scans.independent(128, 0.3, dose=dose)
        patterns = np.asarray(scan.patterns, np.float32)
        if sigma:
            patterns = integrated(patterns, sigma)
        probe, results = analysed(dataset(patterns), reference=first_quarter(scan))
        strain, std = strain_and_sigma(results)
        error = (strain - scan.strain)[:, scan.unstrained.sum(axis=1)[0] :]
        std = std[:, -error.shape[1] :]
        what = (
            f"{sigma} | {probe.attrs['gain']:.2g}" if sigma else "counting camera | 1"
        )
        print(f"| {dose:.0e} | {what} | {1e3 * np.sqrt(np.nanmean(error**2)):.2f} "
              f"| {share_within(error, std, 1):.0f} % "
              f"| {share_within(error, std, 2):.0f} % |", flush=True)  # fmt: skip


def integrated(patterns, sigma, counts=20, readout=2.0):
    """Spread the light of each electron, add readout noise, and round."""
    light = counts * point_spread(patterns, sigma, 0.0, 1.0)
    noise = np.random.default_rng(0).normal(0, readout, light.shape)
    return np.rint(light + noise).astype(np.float32)


def readout():
    """Noise that a camera adds to every pixel, and its dark level."""
    print("\n| electrons | counts of one | readout σ, electrons | dark level, counts "
          "| gain, readout σ, dark level found | edge (0.5) | disks of 26 | fitted "
          "| RMSE, 10⁻³ | within 1σ |\n" + "| --- " * 10 + "|")  # fmt: skip
    kinds = [(1, 0, False), (1, 0, True), (20, 0, True), (20, 1000, False)]
    for dose, (counts, dark, rounded) in product((1e5, 1e6), kinds):
        scan = scans.own(128, 0.3, dose=dose)
        name = f"{dose:.0e} | {counts}, {'whole' if rounded else 'real'} numbers"
        for sigma in (0.5, 1, 2, 4, 8):
            patterns = read_out(scan.patterns, counts, sigma, dark, rounded=rounded)
            print(f"| {name} | {sigma} | {dark} | {_read_out_row(scan, patterns)}",
                  flush=True)  # fmt: skip


def read_out(electrons, counts, sigma, dark, *, rounded):
    """Return counts of a camera whose readout has a noise of `sigma` electrons."""
    noise = np.random.default_rng(0).normal(0, sigma, electrons.shape)
    found = counts * (electrons + noise) + dark
    return (np.rint(found) if rounded else found).astype(np.float32)


def _read_out_row(scan, patterns):
    try:
        probe, results = analysed(dataset(patterns), reference=first_quarter(scan))
    except Exception as error:  # noqa: BLE001 - a refusal is a row of the table
        return f"{error} | | | | | |"
    strain, std = strain_and_sigma(results)
    found, error = probe.attrs, strain - scan.strain
    noise = found.get("readout", 0) / found["gain"]
    return (f"{found['gain']:.2f}, {noise:.2f}, {found.get('dark', 0):.0f} "
            f"| {found['edge']:.2f} | {results.n_indexed.values.mean():.1f} "
            f"| {100 * np.isfinite(error[..., 0]).mean():.0f} % "
            f"| {1e3 * np.sqrt(np.nanmean(error**2)):.2f} "
            f"| {share_within(error, std, 1):.0f} % |")  # fmt: skip


def saturated():
    """Cut counts off at a share of the usual highest count of a pattern."""
    print("\n| electrons | counts of one | cut off at | radius, px (4.2) | gain "
          "| RMSE of strain, 10⁻³ | within 1σ | RMSE of the beam, 10⁻³ px | within 1σ |"
          "\n" + "| --- " * 9 + "|")  # fmt: skip
    for counts, dose in ((1, 1e5), (1, 1e6), (20, 2e4)):
        scan = simulate_scan(scan=(8, 16), radius=4.2, dose=dose, blocks=None)
        patterns = counts * scan["pattern"].to_numpy().astype(float)
        usual = np.median(patterns.max(axis=(2, 3)))
        for share in (None, 0.8, 0.5, 0.2, 0.05):
            most = np.inf if share is None else np.floor(share * usual)
            cut = np.minimum(patterns, most).astype(np.uint32)
            row = _saturated_row(scan.assign(pattern=(scan["pattern"].dims, cut)))
            at = "–" if share is None else f"{share} h"
            print(f"| {dose:.0e} | {counts} | {at} | {row}", flush=True)


def _saturated_row(scan):
    settings = Settings(reference=(slice(None), slice(0, 4)))
    probe, detector = choose_detector(scan.drop_vars("probe"), settings)
    bragg = find_bragg_vectors(scan, detector).compute()
    results = analyze(bragg, probe, settings)[0].compute()
    strain, std = strain_and_sigma(results)
    error = strain - np.stack([scan[f"true_strain_{n}"].values for n in NAMES], -1)
    step = float(scan["q_x"][1] - scan["q_x"][0])
    away = (bragg["bragg_q"] - scan["true_origin"]).values / step
    beam = np.nan_to_num(np.hypot(away[..., 0], away[..., 1]), nan=np.inf).argmin(2)
    variance = bragg["bragg_covariance"].values[..., [0, 2]] / step**2
    off, spread = (
        np.take_along_axis(v, beam[..., None, None], axis=2)[:, :, 0]
        for v in (away, variance)
    )
    return (f"{probe.attrs['radius']:.2f} | {probe.attrs['gain']:.3g} "
            f"| {1e3 * np.sqrt(np.nanmean(error**2)):.2f} "
            f"| {share_within(error, std, 1):.0f} % "
            f"| {1e3 * np.sqrt((off**2).mean()):.0f} "
            f"| {share_within(off, np.sqrt(spread), 1):.0f} % |")  # fmt: skip


PARTS = {
    "gain": gain,
    "bound": noise_bound,
    "structure": structure,
    "scintillator": scintillator,
    "readout": readout,
    "saturated": saturated,
    "gaas": gaas,
    "invariance": invariance,
}

if __name__ == "__main__":
    with threadpool_limits(1):
        for part in sys.argv[1:] or PARTS:
            PARTS[part]()
