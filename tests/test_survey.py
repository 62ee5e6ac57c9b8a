"""Many scans: one table, failures on their own, gone on with."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow.parquet
import pytest
from fcunet_dask import save_scan, survey
from fcunet_dask._bands import cancel_bands
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import ComputeError, ParameterError, StoreError
from fcunet_dask.peaks import BlockPeaks
from fcunet_dask.pipeline import Settings, detect, open_results
from fcunet_dask.pipeline.survey_table import Scanned, read_table, update_table
from tests.in_process import in_process

module = importlib.import_module(
    "fcunet_dask.pipeline.survey"
)  # the name is a function
COMMAND = [sys.executable, "-c", "from fcunet_dask.cli import main; main()", "survey"]


@pytest.fixture
def folder(scan, tmp_path):
    """Two scans, an empty one, and what is no scan."""
    save_scan(scan[["pattern"]], tmp_path / "a.zarr")
    save_scan(scan[["pattern"]].isel(scan_x=slice(0, 5)), tmp_path / "c.zarr")
    save_scan(scan[["pattern"]] * 0, tmp_path / "b.zarr")
    (tmp_path / "d.zarr").mkdir()
    return tmp_path


@pytest.fixture
def quick(monkeypatch, probe):
    """The probe is not measured: it takes most of the time of so small a scan."""
    monkeypatch.setattr(detect, "measure_probe", lambda *a, **k: probe)


def table(out):
    return pyarrow.parquet.read_table(out / "survey.parquet").to_pylist()


def test_failures_stay_with_their_scan(folder, quick):
    out = folder / "out"
    states = []
    rows = survey(
        sorted(folder.glob("*.zarr")),
        out,
        report=lambda rows: states.append([r.state for r in rows]),
    )
    assert states[0] == ["running", "pending", "pending", "pending"]
    assert [r.state for r in rows] == ["done", "failed", "done", "failed"]
    written = table(out)
    assert [r["state"] for r in written] == [r.state for r in rows]
    assert "no disk" in written[1]["error"]
    assert "no Zarr group" in written[3]["error"]
    found = open_results(out / "a.zarr")
    assert written[0]["strain_xx"] == float(np.median(found.strain_xx))
    assert written[0]["rows"] * written[0]["columns"] == 48
    assert written[2]["columns"] == 5
    assert written[0]["fitted"] == 1.0
    assert abs(written[0]["angle"] - 90) < 2


def test_a_survey_is_gone_on_with(folder, quick, monkeypatch, scan):
    paths = [folder / "a.zarr", folder / "d.zarr"]
    survey(paths, folder / "out")
    (folder / "d.zarr").rmdir()
    save_scan(scan[["pattern"]], folder / "d.zarr")

    def found_again(*args):
        msg = "found again"
        raise AssertionError(msg)

    before = (folder / "out" / "a.zarr" / "marks" / "complete.json").stat().st_mtime_ns
    rows = survey(paths, folder / "out")
    assert [r.state for r in rows] == ["done", "done"]
    monkeypatch.setattr("fcunet_dask.pipeline.maps.analyze_block", found_again)
    monkeypatch.setattr("fcunet_dask.peaks.BlockPeaks.__call__", found_again)
    rows = survey(paths, folder / "out")
    assert [r.state for r in rows] == ["done", "done"]
    after = (folder / "out" / "a.zarr" / "marks" / "complete.json").stat().st_mtime_ns
    assert after >= before


def test_rows_of_other_scans_stay_in_the_table(folder, quick):
    out = folder / "out"
    survey([folder / "a.zarr", folder / "b.zarr"], out)
    rows = survey([folder / "c.zarr", folder / "b.zarr"], out)
    assert [row.scan for row in rows] == [str(folder / n) for n in ("c.zarr", "b.zarr")]
    written = {row["scan"][-6:]: row["state"] for row in table(out)}
    assert written == {"c.zarr": "done", "b.zarr": "failed", "a.zarr": "done"}
    assert len(table(out)) == 3


def test_what_is_no_list_of_scans_and_no_table_is_refused(folder):
    with pytest.raises(ParameterError, match=r"must be a list of paths.*'scan\.npy'"):
        survey("scan.npy", folder / "out")
    (folder / "out").mkdir()
    (folder / "out" / "survey.parquet").write_text("notes")
    with pytest.raises(StoreError, match=r"survey\.parquet is no table of a survey"):
        survey([folder / "a.zarr"], folder / "out")
    assert (folder / "out" / "survey.parquet").read_text() == "notes"


def test_overwrite_replaces_results_of_other_settings_alone(folder, quick):
    out = folder / "out"
    marks = out / "a.zarr" / "marks"

    def times():
        return {p.name: p.stat().st_mtime_ns for p in marks.glob("*/*/*.json")}

    survey([folder / "a.zarr"], out)
    before = times()
    (row,) = survey([folder / "a.zarr"], out, overwrite=True)
    assert row.state == "done"
    assert times() == before
    other = Settings(detector_options={"max_peaks": 50})
    (row,) = survey([folder / "a.zarr"], out, settings=other)
    assert row.state == "failed"
    assert "other parameters" in row.error
    (row,) = survey([folder / "a.zarr"], out, settings=other, overwrite=True)
    assert row.state == "done"
    assert times() != before


def test_scans_that_are_done_stay_so_in_other_blocks(folder, quick):
    """Smaller ones are for those that failed for lack of memory."""
    paths = [folder / "a.zarr", folder / "c.zarr"]
    done = survey(paths[:1], folder / "out", blocks=(4, 4))
    again = survey(paths, folder / "out", blocks=(2, 4))
    assert [row.state for row in again] == ["done"] * len(paths)
    assert again[0].strain_xx == done[0].strain_xx
    blocks = [BlockStore(row.out).block for row in again]
    assert blocks == [(4, 4), (2, 4)]


def test_a_scan_that_another_process_runs_is_left_to_it(folder, quick):
    out = folder / "out"
    survey([folder / "a.zarr"], out)
    words = {"host": os.uname().nodename, "pid": os.getpid(), "claim": "x"}
    (out / "a.zarr" / "marks" / "owner.json").write_text(json.dumps(words))
    (row,) = survey([folder / "a.zarr"], out)
    assert row.state == "running"
    assert "being written by process" in row.error


def test_the_command_ends_with_one_where_another_process_runs_a_scan(folder):
    command = [*COMMAND, str(folder / "a.zarr"), str(folder / "out")]
    subprocess.run(command, check=True)
    words = {"host": os.uname().nodename, "pid": os.getpid(), "claim": "x"}
    (folder / "out" / "a.zarr" / "marks" / "owner.json").write_text(json.dumps(words))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "1 of 1 scans are run by another process" in again.stderr


def test_surveys_into_one_folder_keep_each_others_rows(folder, quick):
    """The second begins and ends while the first runs; both have a scan in common."""
    out = folder / "out"

    def meanwhile(rows):
        if [r.state for r in rows] == ["running", "pending"]:
            survey([folder / "b.zarr", folder / "c.zarr"], out)

    survey([folder / "a.zarr", folder / "b.zarr"], out, report=meanwhile)
    states = {row["scan"][-6:]: row["state"] for row in table(out)}
    assert states == {"a.zarr": "done", "b.zarr": "failed", "c.zarr": "done"}


def test_a_result_of_another_survey_is_not_taken_back(folder, quick):
    """The first has not come to the scan that the second has done."""
    out, found = folder / "out", []

    def meanwhile(rows):
        if [r.state for r in rows] == ["running", "pending"]:
            survey([folder / "c.zarr"], out)
        if [r.state for r in rows] == ["done", "pending"]:
            found.extend(r["state"] for r in table(out))

    survey([folder / "a.zarr", folder / "c.zarr"], out, report=meanwhile)
    assert found == ["done", "done"]


def test_surveys_that_begin_together_have_results_of_their_own(
    folder, quick, monkeypatch, scan
):
    """Scans of one name, in two folders; the second begins as the first names its own."""
    (folder / "other").mkdir()
    save_scan(scan[["pattern"]] * 2, folder / "other" / "a.zarr")
    look, second = module._same_source, []

    def meanwhile(*args):
        found = look(*args)
        if not second:
            second.append(None)
            second[:] = survey([folder / "other" / "a.zarr"], folder / "out")
        return found

    monkeypatch.setattr(module, "_same_source", meanwhile)
    (first,) = survey([folder / "a.zarr"], folder / "out")
    assert first.state == second[0].state == "done"
    assert first.out != second[0].out


def test_a_table_that_many_write_keeps_all_rows(tmp_path):
    def write(name):
        for i in range(10):
            row = Scanned(scan=f"{name}{i}", out="")
            update_table(str(tmp_path), lambda table, row=row: [*table, row])

    threads = [threading.Thread(target=write, args=(n,)) for n in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"{n}{i}" for n in "abc" for i in range(10)}
    assert {row.scan for row in read_table(str(tmp_path))} == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["survey.parquet"]


def test_equal_names_are_kept_apart(folder, quick, scan):
    (folder / "other").mkdir()
    save_scan(scan[["pattern"]], folder / "other" / "a.zarr")
    rows = survey([folder / "a.zarr", folder / "other" / "a.zarr"], folder / "out")
    assert rows[0].out != rows[1].out
    assert all(r.state == "done" for r in rows)


def test_a_scan_keeps_its_results_whatever_it_is_surveyed_with(
    folder, quick, monkeypatch, scan
):
    """Alone first, then with one of its name, then without it."""
    (folder / "other").mkdir()
    save_scan(scan[["pattern"]] * 2, folder / "other" / "a.zarr")
    first, second = folder / "a.zarr", folder / "other" / "a.zarr"
    (alone,) = survey([first], folder / "out")
    assert alone.out == str(folder / "out" / "a.zarr")
    (beside,) = survey([second], folder / "out")
    assert beside.state == "done"
    assert beside.out != alone.out
    monkeypatch.setattr("fcunet_dask.peaks.BlockPeaks.__call__", None)
    monkeypatch.setattr("fcunet_dask.pipeline.maps.analyze_block", None)
    for paths in ([first, second], [second], [second, first]):
        rows = survey(paths, folder / "out")
        assert [row.state for row in rows] == ["done"] * len(paths)
        outs = {str(first): alone.out, str(second): beside.out}
        assert {row.out for row in rows} == {outs[row.scan] for row in rows}
        assert {row["scan"] for row in table(folder / "out")} == set(outs)


def test_a_scan_that_was_moved_keeps_its_results(folder, quick):
    (before,) = survey([folder / "a.zarr"], folder / "out")
    (folder / "other").mkdir()
    (folder / "a.zarr").rename(folder / "other" / "a.zarr")
    (after,) = survey([folder / "other" / "a.zarr"], folder / "out")
    assert after.out == before.out
    assert len(table(folder / "out")) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_results_of_a_scan_that_is_away_are_not_given_away(
    folder, quick, monkeypatch, scan, overwrite
):
    """Another scan of its name is surveyed before it comes back."""
    (folder / "other").mkdir()
    save_scan(scan[["pattern"]] * 2, folder / "other" / "a.zarr")
    first, second = folder / "a.zarr", folder / "other" / "a.zarr"
    (before,) = survey([first], folder / "out")
    first.rename(folder / "away")
    (beside,) = survey([second], folder / "out", overwrite=overwrite)
    assert beside.state == "done"
    assert beside.out != before.out
    assert {row["scan"] for row in table(folder / "out")} == {str(first), str(second)}
    (missed,) = survey([first], folder / "out")
    assert missed.state == "failed"
    survey([second], folder / "out", overwrite=overwrite)
    (folder / "away").rename(first)
    monkeypatch.setattr("fcunet_dask.peaks.BlockPeaks.__call__", None)
    monkeypatch.setattr("fcunet_dask.pipeline.maps.analyze_block", None)
    rows = survey([first, second], folder / "out", overwrite=overwrite)
    assert [row.state for row in rows] == ["done", "done"]
    assert [row.out for row in rows] == [before.out, beside.out]


def test_a_name_that_a_failure_took_is_given_back(folder, quick, monkeypatch, scan):
    """Tables of earlier versions have such rows."""
    (folder / "other").mkdir()
    save_scan(scan[["pattern"]] * 2, folder / "other" / "a.zarr")
    first, second = folder / "a.zarr", folder / "other" / "a.zarr"
    (before,) = survey([first], folder / "out")
    failed = Scanned(scan=str(second), out=before.out, state="failed")
    update_table(str(folder / "out"), lambda table: [failed])
    rows = survey([first, second], folder / "out")
    assert [row.state for row in rows] == ["done", "done"]
    assert rows[0].out == before.out
    assert len({row["out"] for row in table(folder / "out")}) == 2


def test_no_scans_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="no scans"):
        survey([], tmp_path)


def test_the_command_ends_with_one_where_a_scan_failed(folder):
    def typed(pattern):
        words = [*COMMAND, str(folder / pattern), str(folder / "out")]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    good = typed("a.zarr")
    assert good.returncode == 0, good.stderr
    assert "done" in good.stdout
    bad = typed("[ad].zarr")
    assert bad.returncode == 1
    assert "1 of 2 scans failed" in bad.stderr
    assert [bad.stdout.count(f"{number}/2 ") for number in (1, 2)] == [1, 1]
    assert [r["state"] for r in table(folder / "out")] == ["done", "failed"]


@pytest.fixture
def client():
    with in_process(2) as client:
        yield client


@pytest.fixture
def slow(monkeypatch):
    """Each block takes a fifth of a second; which scans are worked on is noted."""
    find = BlockPeaks.__call__
    begun = []

    def slowly(self, block):
        begun.append(time.monotonic())
        time.sleep(0.2)
        return find(self, block)

    monkeypatch.setattr(BlockPeaks, "__call__", slowly)
    return begun


def test_side_by_side_is_as_one_after_another(folder, quick, client):
    paths = sorted(folder.glob("*.zarr"))
    most, now = 0, []

    def watch(rows):
        nonlocal most
        now.append(threading.current_thread().name)
        most = max(most, sum(r.state == "running" for r in rows))

    together = survey(paths, folder / "together", at_once=3, report=watch)
    assert most == 3
    alone = survey(paths, folder / "alone", at_once=1)
    assert [r.state for r in together] == ["done", "failed", "done", "failed"]
    for one, other in zip(together, alone, strict=True):
        kept = ("scan", "state", "error", "rows", "columns", "strain_xx", "sigma")
        assert str([getattr(one, k) for k in kept]) == str(
            [getattr(other, k) for k in kept]
        )
    for name in ("a", "c"):
        one, other = (
            open_results(folder / f / f"{name}.zarr") for f in ("together", "alone")
        )
        for variable in ("bragg_q", "g1", "strain_xx", "strain_xy_std"):
            np.testing.assert_array_equal(one[variable], other[variable])
    assert [r["state"] for r in table(folder / "together")] == [
        r.state for r in together
    ]


def test_on_a_cluster_two_run_at_once(folder, quick, client, slow):
    running = []
    survey(
        [folder / "a.zarr", folder / "c.zarr"],
        folder / "out",
        report=lambda rows: running.append([r.state for r in rows].count("running")),
    )
    assert max(running) == 2


@pytest.fixture
def interrupted():
    """Ctrl-C interrupts: other tests import dask-jobqueue, which has it end the process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_stops_all_of_them(folder, quick, client, slow, interrupted):
    """Nothing is computed behind the user's back, and all of it can be gone on with."""
    paths = [folder / "a.zarr", folder / "c.zarr"]
    blocks = {"blocks": (1, 1)}

    def interrupt(rows):
        if all(r.state == "running" for r in rows):
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        survey(paths, folder / "out", report=interrupt, **blocks)
    assert time.monotonic() - began < 6  # all 78 blocks take 8 s
    done = len(slow)
    assert 0 < done < 60
    time.sleep(0.6)
    assert len(slow) <= done + 1  # that a worker had begun
    assert {r["state"] for r in table(folder / "out")} == {"pending"}
    rows = survey(paths, folder / "out", **blocks)
    assert [r.state for r in rows] == ["done", "done"]
    assert len(slow) <= 78 + 4  # what was committed was not done again


def close(client):
    client.close()


def cancel(client):
    """As a restart of the scheduler does."""
    del client
    cancel_bands()


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("lose", [close, cancel])
def test_a_lost_cluster_ends_the_survey(folder, quick, client, slow, at_once, lose):
    """No scan is skipped in silence, none is computed by this process instead."""
    paths = [folder / "a.zarr", folder / "c.zarr", folder / "b.zarr"]
    blocks = {"blocks": (1, 1)}

    def at_work(rows):
        if [r.state for r in rows].count("running") == at_once:
            threading.Timer(1.0, lose, [client]).start()

    with pytest.raises(ComputeError, match=r"the cluster is lost.*same command again"):
        survey(paths, folder / "out", at_once=at_once, report=at_work, **blocks)
    done = len(slow)
    assert 0 < done < 40
    time.sleep(0.6)
    assert len(slow) <= done + 2
    assert {r["state"] for r in table(folder / "out")} == {"pending"}
    assert len(table(folder / "out")) == 3


def test_several_at_once_need_a_cluster(folder):
    with pytest.raises(ParameterError, match="at_once must be at least 1, and without"):
        survey([folder / "a.zarr"], folder / "out", at_once=2)
    with pytest.raises(ParameterError, match="at_once must be at least 1"):
        survey([folder / "a.zarr"], folder / "out", at_once=0)


def test_a_scan_that_is_named_twice_is_one(folder, quick):
    rows = survey([folder / "a.zarr", folder / "a.zarr"], folder / "out")
    assert [r.state for r in rows] == ["done"]
