"""A run looked at while it goes on."""

import dask
import numpy as np
import pytest
from fcunet_dask import open_scan, run, save_scan
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import AnalysisError, StoreError
from fcunet_dask.pipeline import detect, live, strain_so_far, watch
from fcunet_dask.plot.live import live as draw_live


class PowerError(RuntimeError):
    """The power went out."""


@pytest.fixture
def stored(scan, tmp_path, monkeypatch, probe):
    """The scan in four blocks, and its probe known."""
    monkeypatch.setattr(detect, "measure_probe", lambda *a, **k: probe)
    save_scan(scan[["pattern"]], tmp_path / "scan.zarr", shard=(4, 4))
    return open_scan(tmp_path / "scan.zarr", blocks=(4, 4))


def interrupted(stored, out, after):
    """Run until `after` blocks are finished."""
    with pytest.MonkeyPatch.context() as patch:
        real, calls = BlockStore.write, []

        def write(self, *args):
            calls.append(args)
            if len(calls) > after:
                raise PowerError
            real(self, *args)

        patch.setattr(BlockStore, "write", write)
        with dask.config.set(scheduler="synchronous"), pytest.raises(PowerError):
            run(stored, out)


def test_the_map_so_far_is_that_of_the_end_up_to_the_reference(stored, tmp_path):
    out = tmp_path / "out"
    interrupted(stored, out, after=3)
    early = strain_so_far(out)
    finished = early["finished"].values
    assert 0 < finished.sum() < finished.size
    assert np.isnan(early["strain_xx"].values[~finished]).all()
    late = run(stored, out).load()
    difference = (early["strain_xx"] - late["strain_xx"]).values[finished]
    assert abs(difference - np.median(difference)).max() < 2e-3
    assert abs(np.median(difference)) < 0.02


def test_large_scans_are_thinned(stored, tmp_path, monkeypatch):
    interrupted(stored, tmp_path / "out", after=3)
    monkeypatch.setattr(live, "POSITIONS", 12)
    assert strain_so_far(tmp_path / "out")["strain_xx"].size <= 12


def test_nothing_finished_is_said_so(stored, tmp_path):
    with pytest.raises(StoreError):
        strain_so_far(tmp_path / "out")
    interrupted(stored, tmp_path / "out", after=0)
    with pytest.raises(AnalysisError, match="no block is finished"):
        strain_so_far(tmp_path / "out")


def test_watching_ends_with_the_run_and_draws_every_map(stored, tmp_path, monkeypatch):
    out = tmp_path / "out"
    steps = iter(
        [
            lambda: interrupted(stored, out, after=2),
            lambda: interrupted(stored, out, after=1),
            lambda: run(stored, out),
        ]
    )
    monkeypatch.setattr(live.time, "sleep", lambda seconds: next(steps)())
    seen = []

    def noted():
        for maps in watch(out, every=1.0):
            seen.append(float(maps["finished"].mean()))
            yield maps

    figure = draw_live(noted())
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == 1.0
    assert figure.get_suptitle() == "100 % of the positions"
