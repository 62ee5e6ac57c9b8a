"""Bragg disks, lattices and strain of 4D-STEM scans of any size, on Dask."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fcunet_dask.calibrate import apply_calibration, measure_origin
from fcunet_dask.calibration import Calibration
from fcunet_dask.cluster import connect_cluster
from fcunet_dask.errors import FcunetError
from fcunet_dask.io import convert, open_scan, save_scan
from fcunet_dask.lattice import find_lattice, fit_lattice, reference_lattice
from fcunet_dask.model import DiskDetector, load_detector
from fcunet_dask.peaks import bragg_vector_map, find_bragg_vectors
from fcunet_dask.pipeline import estimate_probe, plan, run, survey
from fcunet_dask.pulls import measure_pulls
from fcunet_dask.simulate import simulate_scan
from fcunet_dask.strain import compute_strain
from fcunet_dask.structure import structure_factors

if TYPE_CHECKING:
    from fcunet_dask import plot

__all__ = [
    "Calibration",
    "DiskDetector",
    "FcunetError",
    "apply_calibration",
    "bragg_vector_map",
    "compute_strain",
    "connect_cluster",
    "convert",
    "estimate_probe",
    "find_bragg_vectors",
    "find_lattice",
    "fit_lattice",
    "load_detector",
    "measure_origin",
    "measure_pulls",
    "open_scan",
    "plan",
    "plot",
    "reference_lattice",
    "run",
    "save_scan",
    "simulate_scan",
    "structure_factors",
    "survey",
]


def __getattr__(name: str) -> Any:
    """Import matplotlib's side of the package on first use (PEP 562)."""
    if name == "plot":
        return import_module("fcunet_dask.plot")
    msg = f"module 'fcunet_dask' has no attribute {name!r}"
    raise AttributeError(msg)
