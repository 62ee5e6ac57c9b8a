"""The main job on measured patterns: what comes out, or why it is refused.

python benchmarks/real_data.py [FOLDER [DETECTOR]]

Default: $FCUNET_DATA, or ../shared/data; template.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from fcunet_dask import FcunetError, open_scan, run
from fcunet_dask.schema import BRAGG_INTENSITY

FILES = [
    ("semi_experimental_GaAs110/gaas_strained.h5", {"dataset": "counts_1e6"}, 1),
    ("semi_experimental_GaAs110/gaas_strained.h5", {"dataset": "counts_2e4"}, 1),
    ("autodisk_PdPt_figures/recovered_128.npz", {"dataset": "avg_sqrt8bit"}, 1),
    ("autodisk_PdPt_figures/recovered_128.npz", {"dataset": "single_linear8bit"}, 1),
    ("ba50_nbd/dd020.dm3", {}, 1),
    ("ba50_nbd/ccd_512.npy", {}, 1),
    ("pyxem_demos_calibration/moo3_20cm.tif", {}, 1),
    ("din14970_sped_subset/subset_data.hspy", {}, 1),
    ("aamirmalik_scan32/scan_32.npz", {"dataset": "data"}, 6),
    ("io_formats/test1.blo", {}, 1),
    ("pyxem_demos_calibration/au_xgrating_20cm.tif", {}, 1),
    ("fpd_medipix_2x2/fpd_file_test.hdf5", {}, 1),
    ("mib2hspy_merlin_probe/test_CL30cm.mib", {}, 1),
    ("mustem_F20_Si110_PACBED/F20_Si110_PACBED.tif", {}, 1),
]


def lattices(results) -> str:
    basis = results.attrs["provenance"]["basis"]
    words = []
    for g1, g2 in zip(np.array(basis["g1"]), np.array(basis["g2"]), strict=True):
        cosine = g1 @ g2 / np.hypot(*g1) / np.hypot(*g2)
        words.append(
            f"{np.hypot(*g1):.4g}, {np.hypot(*g2):.4g}, "
            f"{np.degrees(np.arccos(cosine)):.2f}°"
        )
    return "; ".join(words)


def row(path: Path, options: dict, grains: int, detector: str, out: Path) -> str:
    try:
        scan = open_scan(path, **options)
        results = run(scan, out, grains=grains, detector=detector)
    except FcunetError as error:
        return f"refused: {error} | | |"
    probe = results.attrs["provenance"]["probe"]
    fitted = np.asarray(results["lattice_status"]) == 0
    disks = np.asarray(results["n_indexed"])[fitted]
    found = np.isfinite(results[BRAGG_INTENSITY.name]).sum("peak").values[fitted]
    radius = f"{probe['radius']:.2f}, {probe['edge']:.2f}"
    count = (
        f"{disks.mean():.0f} of {found.mean():.0f} ({fitted.sum()} of {fitted.size})"
    )
    units = results["reference_g1"].attrs["units"]
    return f"{lattices(results)} | {units} | {radius} | {count}"


def main() -> None:
    defaults = [os.environ.get("FCUNET_DATA", "../shared/data"), "template"]
    folder, detector = sys.argv[1:] + defaults[len(sys.argv) - 1 :]
    columns = (
        "file | g₁, g₂, angle | unit | radius, edge (px) | disks on it (positions)"
    )
    print(f"| {columns} |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for i, (name, options, grains) in enumerate(FILES):
            what = " ".join([name, *options.values()])
            path, out = Path(folder) / name, Path(scratch) / f"{i}.zarr"
            line = row(path, options, grains, detector, out)
            print(f"| {what} | {line} |", flush=True)


if __name__ == "__main__":
    main()
