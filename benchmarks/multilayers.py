"""Strain of five multilayers on which lattice fits are decided (ADRs 0037 and 0040).

python benchmarks/multilayers.py FOLDER JUDGED [DETECTOR ...]

None is one that detectors are judged on. Scans that are not in FOLDER are made there, about
half an hour of one core in all; detections count by the thresholds in JUDGED, the folder of
`fcunet-dask evaluate --out JUDGED`. Default: template and fcunet_fine.
"""

import json
import sys
from pathlib import Path

import numpy as np
from fcunet_dask import fit_lattice, measure_pulls, reference_lattice
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.lattice import given_lattice
from fcunet_dask.simulate.evaluation import multilayer_scan
from fcunet_dask.simulate.fields import Multilayer
from fcunet_dask.simulate.scan_store import make_scan
from fcunet_dask.strain import compute_strain
from fcunet_dask.train.judge.contender import Contender
from fcunet_dask.train.judge.detection import Threshold
from fcunet_dask.train.judge.strain import (
    UNSTRAINED,
    counted_scan,
    counting_disks,
    strain_figures,
)
from threadpoolctl import threadpool_limits

NAMES = ("xx", "yy", "xy")


def layers(low, high, substrate=0.25, alloy=(0.0, 0.5)):
    """Return two periods of 20 nm."""
    kept = {"low": low, "high": high, "substrate": substrate, "alloy": alloy}
    return Multilayer(start=120.0, period=200.0, periods=2, **kept)


def grid(voltage):
    """Return the box of the evaluation scans at another voltage, kV."""
    return Grid(box=82.6, size=480, step=2.0, voltage=voltage)


SCANS = {
    "v1": {"field": layers(-0.01, 0.01), "thickness": (26.0, 26.0), "tilt": (4.0, 6.0),
           "grid": grid(300.0), "probe": Probe(semiangle=1.6)},
    "v2": {"field": layers(-0.008, 0.006), "thickness": (33.0, 33.0), "tilt": (0.0, 0.0),
           "grid": grid(120.0), "probe": Probe(semiangle=2.6)},
    "v3": {"field": layers(0.0, 0.01, 0.0, (0.0, 0.2)), "thickness": (90.0, 90.0),
           "tilt": (2.0, 1.0), "probe": Probe(semiangle=1.8)},
    "v4": {"field": layers(-0.012, 0.008), "thickness": (50.0, 50.0), "tilt": (7.0, -4.0),
           "rotation": np.eye(3), "basis": ((2, 2, 0), (2, -2, 0)),
           "probe": Probe(semiangle=1.8)},
    "v5": {"field": layers(0.0, 0.014, 0.0, (0.0, 0.25)), "thickness": (130.0, 130.0),
           "tilt": (0.0, 3.0), "probe": Probe(semiangle=2.2)},
}  # fmt: skip


def made(folder, name):
    """Make a scan, or go on with it, where it is not complete; return its path."""
    shape = {"scan": (2, 101), "scan_step": 0.6, "tile": (2, 4)}
    recipe = multilayer_scan("ideal", **(shape | SCANS[name]))
    return make_scan(recipe, Path(folder) / f"{name}.zarr")


def tuned(judged, detector):
    """Return a detector as it was judged."""
    figures = json.loads((Path(judged) / f"{detector}.json").read_text())
    return Contender(detector, figures["options"], Threshold(**figures["threshold"]))


def rows(folder, contender, name):
    """Return RMSE and shares within 1σ of a scan, without and with shared errors."""
    scan = counted_scan(made(folder, name))
    bragg = counting_disks(scan, contender.detector, contender.threshold)
    basis = given_lattice(*(scan[f"true_{g}"].to_numpy()[0, 0] for g in ("g1", "g2")))
    plain = fit_lattice(bragg, basis)
    pulled = fit_lattice(bragg, basis, pulls=measure_pulls(bragg, plain))
    names = [*(f"true_strain_{n}" for n in NAMES), "true_rotation"]
    truth = np.stack([scan[n].to_numpy() for n in names], axis=-1)
    mask = np.abs(truth[..., 0]) < UNSTRAINED
    found = []
    for lattice in (plain, pulled):
        strain = compute_strain(
            lattice, reference_lattice(lattice, mask=mask)
        ).compute()
        figures = strain_figures(strain, truth)
        found.append(
            [[figures[n][k] for n in NAMES] for k in ("rmse", "within_1_sigma")]
        )
    return np.array(found)


def show(label, figures):
    """Print a row: RMSE, then shares within 1σ without and with shared errors."""
    rmse = ", ".join(f"{100 * v:.3f}" for v in figures[0, 0])
    shares = (" / ".join(f"{100 * v:.0f}" for v in part[1]) for part in figures)
    print(f"| {label} | {rmse} | {' % | '.join(shares)} % |", flush=True)


def main(folder, judged, *detectors):
    """Print the table of all detectors."""
    contenders = [tuned(judged, d) for d in detectors or ("template", "fcunet_fine")]
    print("| detector | scan | RMSE of ε_xx, ε_yy, ε_xy, % | within 1σ, disks alone "
          "| with shared errors |\n" + "| --- " * 5 + "|")  # fmt: skip
    for contender in contenders:
        found = []
        for name in SCANS:
            found.append(rows(folder, contender, name))
            show(f"{contender.name} | {name}", found[-1])
        mean = np.mean(found, axis=0)
        mean[:, 0] = np.exp(np.log(np.array(found)[:, :, 0]).mean(axis=0))
        show(f"{contender.name} | all (RMSE: geometric mean)", mean)


if __name__ == "__main__":
    with threadpool_limits(1):
        main(*sys.argv[1:])
