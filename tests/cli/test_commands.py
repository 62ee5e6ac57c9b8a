"""The commands as a person types them: in a process of their own, on real files."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from distributed import LocalCluster
from fcunet_dask import save_scan, simulate_scan
from fcunet_dask.cli.screen import region
from fcunet_dask.pipeline import open_results
from fcunet_dask.plot import summary

COMMAND = [sys.executable, "-c", "from fcunet_dask.cli import main; main()"]


def typed(*words, code=0):
    done = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def truth():
    return simulate_scan(scan=(6, 12), blocks=None, dose=1e5, seed=3)


@pytest.fixture(scope="module")
def file(truth, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    with h5py.File(path, "w") as f:
        f["datacube/data"] = truth.pattern.values
    return path


@pytest.fixture(scope="module")
def results(file) -> Path:
    out = file.parent / "strain.zarr"
    typed("strain", file, out, "--q-step", 0.02, "--reference", ":,0:3")
    return out


def test_strain_recovers_what_was_put_in(results, truth):
    error = open_results(results).strain_xx.values - truth.true_strain_xx.values
    assert np.sqrt((error**2).mean()) < 0.001


def test_strain_says_what_it_chose_and_draws_it(file, results):
    said = typed(
        "strain",
        file,
        results,
        "--q-step",
        0.02,
        "--reference",
        ":,0:3",
        "--axes",
        "g1",
    )
    for word in ("probe", "origin", "lattice", "reference", "strain_xx"):
        assert word in said
    assert results.with_suffix(".png").stat().st_size > 20_000


@pytest.mark.parametrize("kind", ["local", "address"])
def test_strain_on_a_cluster_is_the_same(file, results, tmp_path, kind):
    out = tmp_path / "out.zarr"
    words = ("--q-step", 0.02, "--reference", ":,0:3", "--workers", 1)
    if kind == "local":
        typed("strain", file, out, *words)
    else:
        options = {"processes": False, "protocol": "tcp://", "dashboard_address": ":0"}
        with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
            address = cluster.scheduler_address
            said = typed("strain", file, out, *words, "--cluster", address)
        assert f"scheduler {address}\nworkers tcp://" in said
    first, second = open_results(results), open_results(out)
    np.testing.assert_array_equal(first.bragg_q.values, second.bragg_q.values)


def test_a_killed_scheduler_is_said_in_one_line(file, tmp_path):
    plain = ["--interface", "lo", "--dashboard-address", "127.0.0.1:0"]
    found = ["--scheduler-file", str(tmp_path / "scheduler.json")]
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--port", "0", *plain, *found], **quiet
    )
    worker = subprocess.Popen(
        [*dask, "worker", "--local-directory", str(tmp_path), *plain, *found], **quiet
    )
    words = [file, tmp_path / "out", "--blocks", "1,1", "--cluster", found[1]]
    strain = subprocess.Popen(
        [*COMMAND, "strain", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not list(tmp_path.glob("out/marks/*/*/*.json")):
            assert strain.poll() is None, strain.communicate()
            time.sleep(0.01)
        scheduler.kill()
        _, said = strain.communicate(timeout=60)
    finally:
        for process in (strain, worker, scheduler):
            process.kill()
            process.wait()
    assert strain.returncode == 1
    (line,) = said.splitlines()
    assert line.startswith("ComputeError: the cluster is lost: its scheduler has ended")
    assert "same command again" in line


def marks(out):
    return sorted(str(p.relative_to(out)) for p in out.glob("marks/*/*/*.json"))


def test_blocks_are_those_that_are_asked_for(file, results, tmp_path):
    """The whole scan is one block by itself: 2 MiB."""
    words = ("--q-step", 0.02, "--reference", ":,0:3")
    assert len(marks(results)) == 1
    typed("strain", file, tmp_path / "out", *words, "--blocks", "4,5")
    assert len(marks(tmp_path / "out")) == 2 * 3
    typed("survey", file, tmp_path / "many", *words, "--blocks", "6,3")
    assert len(marks(tmp_path / "many" / "scan.zarr")) == 4
    for found in (tmp_path / "out", tmp_path / "many" / "scan.zarr"):
        one, several = (open_results(path).bragg_q for path in (results, found))
        # products of matrices of other sizes round otherwise, in the last digits
        last = 4 * np.finfo(np.float32).eps
        np.testing.assert_allclose(one.values, several.values, rtol=0, atol=last)
    said = typed("plan", file, tmp_path / "plan", "--q-step", 0.02, "--blocks", "2,50")
    assert "3 of 2 × 12 patterns" in " ".join(said.split())


def test_another_calibration_is_another_run(file, results):
    said = typed("strain", file, results, "--q-step", 0.03, code=1)
    assert "OtherRunError" in said
    assert "overwrite" in said


def test_a_grain_outside_the_reference_is_said_to_be_referred_to_itself(tmp_path):
    same = {"scan": (4, 6), "detector": (96, 112), "radius": 4.2, "blocks": None}
    left = simulate_scan(g1=(5.2, 17.0), g2=(17.0, -5.2), **same)
    right = simulate_scan(g1=(-0.9, 17.8), g2=(17.8, 0.9), **same, strain=0.0)
    both = [g.pattern.values for g in (left, right)]
    np.save(tmp_path / "scan.npy", np.concatenate(both, axis=1))
    said = typed(
        *("strain", tmp_path / "scan.npy", tmp_path / "out"),
        *("--grains", 2, "--reference", ":,0:3"),
    )
    (grain,) = re.findall(r"grain (\d) has no position there", said)
    found = open_results(tmp_path / "out")
    assert (found.grain_index.values[:, 6:] == int(grain)).all()
    assert (found.grain_index.values[:, :6] != int(grain)).all()
    assert "all of its own 24" in " ".join(said.split())
    assert f"grain {grain}, not in the reference" in summary(found).get_suptitle()


def test_view_draws_a_position(file, results, tmp_path):
    picture = tmp_path / "pattern.png"
    typed("view", file, results, "--at", 2, 5, "--out", picture)
    assert picture.stat().st_size > 10_000
    nowhere = tmp_path / "none" / "picture.png"
    said = typed("view", file, results, "--out", nowhere, code=1)
    assert "cannot be written" in said
    said = typed("view", file, results, "--at", 6, 0, code=1)
    assert "(6, 0) is outside the scan of 6 × 12" in said


def test_view_refuses_results_of_another_scan(file, truth, results, tmp_path):
    """Of other positions, another detector, or other patterns in the same shape."""
    counts = truth.pattern.values
    for name, other in (("rows", counts[1:4]), ("detector", counts[..., :112])):
        np.save(tmp_path / f"{name}.npy", other)
        said = typed("view", tmp_path / f"{name}.npy", results, code=1)
        shape = "{} × {} patterns of {} × {} px".format(*other.shape)
        assert f"of 6 × 12 patterns of 128 × 128 px ({file})" in said
        assert f"has {shape}: give the scan as they were made" in said
    for name, other in (("same", counts), ("flipped", counts[::-1])):
        scan = truth[["pattern"]].assign(pattern=(truth.pattern.dims, other))
        save_scan(scan, tmp_path / f"{name}.zarr")
    out, picture = tmp_path / "out", tmp_path / "pattern.png"
    typed("strain", tmp_path / "same.zarr", out, "--reference", ":,0:3")
    said = typed("view", tmp_path / "flipped.zarr", out, "--out", picture, code=1)
    assert "of another scan" in said
    assert "its digest is" in said
    assert not picture.exists()


def test_view_knows_a_file_that_moved_and_doubts_a_copy(file, truth, results, tmp_path):
    copy, moved, picture = (tmp_path / n for n in ("copy.h5", "moved.h5", "view.png"))
    shutil.copy(file, copy)
    os.utime(copy, (1, 1))
    assert "is not known" in typed("view", copy, results, "--out", picture)
    shutil.copy2(file, moved)
    assert "warning" not in typed("view", moved, results, "--out", picture)
    with h5py.File(copy, "a") as f:
        f["datacube/more"] = truth.pattern.values
    said = typed("view", copy, results, "--dataset", "datacube/more", code=1)
    assert "its dataset is datacube/data, here it is datacube/more" in said


def test_convert_and_info(file, truth, tmp_path):
    typed("convert", file, tmp_path / "native.zarr")
    said = typed("info", tmp_path / "native.zarr")
    assert "scan_y 6 × scan_x 12 × q_y 128 × q_x 128, uint16" in " ".join(said.split())
    assert "StoreError" in typed("convert", file, file.parent, code=1)


def test_info_says_both_steps_of_a_scan(truth, tmp_path):
    scan = truth[["pattern"]].isel(scan_y=slice(None, None, 2), scan_x=slice(0, 4))
    save_scan(scan, tmp_path / "a.zarr")
    assert "scan_step 4 × 2 (y, x)" in " ".join(
        typed("info", tmp_path / "a.zarr").split()
    )


def test_plan_says_what_will_be_and_refuses_what_cannot(file, tmp_path):
    said = typed("plan", file, tmp_path / "out", "--q-step", 0.02)
    for word in ("6 × 12 patterns", "tasks in 1 bands", "memory", "ms to search"):
        assert word in " ".join(said.split())
    assert not (tmp_path / "out").exists()


def test_resume_and_overwrite_are_told_apart(file, results, tmp_path):
    out = tmp_path / "copy.zarr"
    shutil.copytree(results, out)
    words = ("--q-step", 0.02, "--reference", ":,0:3")
    said = typed("strain", file, out, *words, "--no-resume", code=1)
    assert "overwrite" in said
    typed("strain", file, out, *words, "--no-resume", "--overwrite")


def test_frames_in_one_row_are_wrapped_by_every_command(truth, results, tmp_path):
    flat = tmp_path / "flat.npy"
    np.save(flat, truth.pattern.values.reshape(-1, *truth.pattern.shape[2:]))
    shape = ("--scan-shape", "6,12")
    assert "scan_y 6 × scan_x 12" in " ".join(typed("info", flat, *shape).split())
    typed("convert", flat, tmp_path / "a.zarr", *shape)
    assert "scan_y 6 × scan_x 12" in typed("info", tmp_path / "a.zarr")
    picture = tmp_path / "p.png"
    typed("view", flat, results, *shape, "--at", 5, 11, "--out", picture)
    assert picture.exists()


def test_a_missing_file_is_named(tmp_path):
    said = typed("strain", tmp_path / "no.zarr", tmp_path / "out", code=1)
    assert "ReaderError" in said
    assert "no.zarr" in said.replace("\n", "")
    assert not (tmp_path / "out").exists()


def test_regions_are_those_of_numpy():
    """One row or column, from either end, or a range."""
    scan = np.arange(35).reshape(5, 7)
    for text, expected in {
        "-1,0:2": scan[-1:, 0:2],
        "2,-3": scan[2:3, 4:5],
        "0,-1": scan[:1, 6:],
        ":, -3:": scan[:, 4:],
    }.items():
        found = scan[region(text, "--reference")]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--reference", "0:8"), "ROWS,COLUMNS"),
        (("--reference", "a:b,:"), "range"),
        (("--g1", "1"), "Y,X"),
        (("--scan-shape", "4"), "--scan-shape: expected ROWS,COLUMNS"),
        (("--blocks", "4x4"), "--blocks: expected ROWS,COLUMNS"),
    ],
)
def test_words_that_make_no_sense_are_explained(file, tmp_path, words, hint):
    said = typed("strain", file, tmp_path / "out", *words, code=2)
    assert hint in said.replace("\n", "")
