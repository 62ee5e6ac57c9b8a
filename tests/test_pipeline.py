"""The whole analysis: automatic, resumable, and never two runs in one."""

from dataclasses import fields

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from fcunet_dask import (
    Calibration,
    connect_cluster,
    load_detector,
    open_scan,
    run,
    save_scan,
    simulate_scan,
)
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import ParameterError, ReaderError, StoreError
from fcunet_dask.model import Peaks
from fcunet_dask.pipeline import Settings, open_results
from fcunet_dask.schema import (
    BRAGG_VARIABLES,
    LATTICE_VARIABLES,
    SCAN,
    STRAIN_VARIABLES,
    Q,
)

NAMES = ("bragg_q", "g1", "g2", "strain_xx", "strain_xy", "rotation", "strain_xx_std")


def same(a, b):
    for name in NAMES:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=name)


class Echo:
    """Finds what it was told, and counts how often it was asked."""

    __slots__ = ("before", "calls", "detector", "fails_at")

    def __init__(self, detector, fails_at=None):
        self.detector, self.fails_at, self.calls = detector, fails_at, 0
        self.before = int

    def __dask_tokenize__(self):
        return self.detector.token  # how often it was asked does not make it another

    @property
    def max_peaks(self):
        return self.detector.max_peaks

    def __call__(self, patterns):
        self.calls += 1
        self.before(self.calls)
        if self.calls == self.fails_at:
            msg = "the power went out"
            raise RuntimeError(msg)
        return self.detector(patterns)


@pytest.fixture(scope="module")
def path(scan, tmp_path_factory):
    """The scan in a native store."""
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    save_scan(scan, path, shard=(4, 4))
    return path


@pytest.fixture
def stored(path):
    """The scan from the store, in four blocks."""
    return open_scan(path, blocks=(4, 4))


def test_all_results_are_there_with_their_reasons(results):
    for variable in (*BRAGG_VARIABLES, *LATTICE_VARIABLES, *STRAIN_VARIABLES):
        assert results[variable.name].dims == variable.dims
    assert results["scan_y"].attrs["units"] == "nm"
    for name in ("g1", "basis_g1", "reference_g2", "map_q_x", "origin", "residual"):
        assert results[name].attrs["units"] == "1/Å", name
    provenance = results.attrs["provenance"]
    for key in (
        "version",
        "source",
        "probe",
        "detector",
        "origin",
        "basis",
        "reference",
    ):
        assert provenance[key]
    assert provenance["probe"]["origin"] == "disks of the scan"
    assert provenance["basis"]["from"] == "Bragg-vector map"


def test_every_stage_is_reported(stored, tmp_path):
    calls = []
    run(stored, tmp_path / "out", progress=lambda *c: calls.append(c))
    assert calls[0] == ("probe", 0, 1)
    assert ("disks", 0, 4) in calls
    assert ("disks", 4, 4) in calls
    assert calls[-1] == ("strain", 1, 1)


def test_a_file_and_its_scan_give_the_same(path, tmp_path):
    from_path = run(path, tmp_path / "a")
    from_scan = run(open_scan(path), tmp_path / "b")
    same(from_path, from_scan)


def test_an_interrupted_run_goes_on_and_ends_the_same(stored, tmp_path, detector):
    undisturbed = run(stored, tmp_path / "a", detector=Echo(detector))
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(RuntimeError, match="power"):
            run(stored, tmp_path / "b", detector=Echo(detector, fails_at=3))
        done = 4 - len(BlockStore(tmp_path / "b").pending())
        assert 0 < done < 4
        with pytest.raises(StoreError, match="is not finished: "):
            open_results(tmp_path / "b")
        second = Echo(detector)
        resumed = run(stored, tmp_path / "b", detector=second)
    assert second.calls == 4 - done
    same(resumed, undisturbed)
    files = {
        p.relative_to(tmp_path / "a")
        for p in (tmp_path / "a").rglob("*")
        if p.is_file() and p.parent.parent.name.startswith("bragg")
    }
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (
            tmp_path / "b" / file
        ).read_bytes()


def test_files_that_went_missing_are_no_results(stored, tmp_path, detector):
    """Zarr would read them as NaN."""
    out = tmp_path / "out"
    before = run(stored, out, detector=Echo(detector)).load()
    a_file(out / "bragg_q").unlink()
    with pytest.raises(StoreError, match=r"bragg_q has \d+ of its \d+ files"):
        open_results(out)
    again = Echo(detector)
    same(run(stored, out, detector=again), before)
    assert again.calls == 1
    (strain,) = out.glob("*/strain_xx")
    a_file(strain).unlink()
    with pytest.raises(StoreError, match="strain_xx has"):
        open_results(out)
    same(run(stored, out, detector=Echo(detector)), before)


@pytest.mark.parametrize("suffix", ["npy", "zarr"])
def test_a_scan_that_was_replaced_while_open_is_not_mixed_in(
    suffix, scan, tmp_path, detector
):
    """Nor is one that is replaced while it is read."""

    def write(pattern):
        if suffix == "npy":
            np.save(file, pattern.values)
        else:
            save_scan(pattern.to_dataset(), file, shard=(4, 4), overwrite=True)

    file = tmp_path / f"scan.{suffix}"
    write(scan.pattern)
    opened = open_scan(file, blocks=(4, 4))
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(RuntimeError, match="power"):
            run(opened, tmp_path / "a", detector=Echo(detector, fails_at=2))
        write(scan.pattern[:, ::-1])
        again = Echo(detector)
        with pytest.raises(ReaderError, match=r"changed or replaced since"):
            run(opened, tmp_path / "a", detector=again)
        assert again.calls == 0
        late = Echo(detector)
        late.before = lambda calls: calls == 2 and write(scan.pattern)
        with pytest.raises(ReaderError, match=r"changed or replaced since"):
            run(open_scan(file, blocks=(4, 4)), tmp_path / "b", detector=late)
    with pytest.raises(StoreError, match="is not finished"):
        open_results(tmp_path / "b")


def test_a_foreign_store_that_was_filled_meanwhile_is_another_scan(
    scan, tmp_path, detector
):
    """Half of its chunks were there at first."""
    file = tmp_path / "scan.zarr"
    array = zarr.open_group(file, mode="w").create_array(
        "pattern", shape=scan.pattern.shape, chunks=(3, 4, 96, 112), dtype="float32"
    )
    array[:3] = scan.pattern.values[:3]
    run(file, tmp_path / "out", detector=Echo(detector))
    same_again = Echo(detector)
    run(file, tmp_path / "out", detector=same_again)
    assert same_again.calls == 0
    array[3:] = scan.pattern.values[3:]
    with pytest.raises(StoreError, match="sample"):
        run(file, tmp_path / "out", detector=Echo(detector))


def a_file(array):
    """Any file with values of an array of a store."""
    return min(p for p in (array / "c").rglob("*") if p.is_file())


def test_what_a_loss_of_power_leaves_is_done_again(stored, tmp_path, detector):
    """Names on the disk, and nothing in them; blocks of foreign numbers alike."""
    undisturbed = run(stored, tmp_path / "a", detector=Echo(detector)).load()
    out = tmp_path / "b"
    run(stored, out, detector=Echo(detector))
    store = BlockStore(out)
    first, second, third, _ = store.blocks()
    a_file(out / "bragg_q").write_bytes(b"")
    (out / "marks" / store.name / f"{second[0]}" / f"{second[1]}.json").write_bytes(b"")
    store.arrays["bragg_q"][store.region(third)] = 1.02 * store.read("bragg_q", third)
    again = Echo(detector)
    resumed = run(stored, out, detector=again)
    assert again.calls == len({first, second, third})
    same(resumed, undisturbed)


def test_a_new_reference_costs_no_new_detection(stored, tmp_path, detector):
    first = run(stored, tmp_path / "out", detector=Echo(detector)).load()
    again = Echo(detector)
    region = (slice(0, 6), slice(0, 2))
    second = run(stored, tmp_path / "out", detector=again, reference=region)
    assert again.calls == 0
    np.testing.assert_array_equal(first["bragg_q"], second["bragg_q"])
    assert abs(float(second["strain_xx"].values[:, :2].mean())) < 3e-4
    assert abs(float(first["strain_xx"].values[:, :2].mean())) > 1e-3


def test_results_that_are_open_do_not_turn_into_nothing(stored, tmp_path, detector):
    """The analysis before the last is kept; the one before that is an error, not NaN."""
    out = tmp_path / "out"
    parts = [(slice(None), slice(i, i + 2)) for i in (0, 2, 4)]
    maps = [run(stored, out, detector=Echo(detector), reference=part) for part in parts]
    assert np.isfinite(maps[2].strain_xx).all()
    assert np.isfinite(maps[1].strain_xx).all()
    with pytest.raises(ReaderError, match="no such Zarr group or array"):
        maps[0].strain_xx.values  # noqa: B018
    with pytest.raises(ReaderError, match="no such Zarr group or array"):
        maps[0].lattice_status.values  # noqa: B018


def test_other_settings_are_refused_and_nothing_is_lost(stored, tmp_path):
    before = run(
        stored, tmp_path / "out", detector_options={"subpixel": "parabola"}
    ).load()
    with pytest.raises(StoreError, match=r"other parameters.*subpixel"):
        run(stored, tmp_path / "out", detector_options={"subpixel": "dft"})
    same(open_results(tmp_path / "out"), before)
    after = run(
        stored, tmp_path / "out", detector_options={"subpixel": "dft"}, overwrite=True
    )
    assert (after["bragg_q"].values != before["bragg_q"].values).any()


def test_another_scan_in_memory_is_another_run(scan, tmp_path, detector):
    run(scan, tmp_path / "out", detector=detector)
    other = scan.copy()
    other["pattern"] = scan["pattern"] + 1
    with pytest.raises(StoreError, match="other parameters"):
        run(other, tmp_path / "out", detector=detector)


def test_another_part_of_a_file_is_another_run(stored, tmp_path, detector):
    run(stored.isel(scan_x=slice(0, 4)), tmp_path / "out", detector=detector)
    with pytest.raises(StoreError, match="other parameters"):
        run(stored.isel(scan_x=slice(4, 8)), tmp_path / "out", detector=detector)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_do_not_matter(scheduler, stored, tmp_path, results):
    with dask.config.set(scheduler=scheduler):
        found = run(stored, tmp_path / "out", detector_options={"radius": 4.2})
        other = run(stored, tmp_path / "b", detector_options={"radius": 4.2})
    same(found, other)


@pytest.mark.slow
def test_worker_processes_do_not_matter(stored, tmp_path):
    alone = run(stored, tmp_path / "a")
    with connect_cluster(n_workers=2) as client:
        together = run(stored, tmp_path / "b").load()
        client.cluster.close()
    same(alone, together)


def test_given_vectors_axes_and_calibration_are_used(scan, tmp_path):
    c = Calibration(q_step=0.04, scan_step=5.0, scan_rotation=90.0)
    g1, g2 = 0.04 * np.array([[5.2, 17.0], [17.0, -5.2]])
    found = run(
        scan,
        tmp_path / "out",
        calibration=c,
        g1=tuple(g1),
        g2=tuple(g2),
        axes="detector",
    )
    found = found.load()
    assert found.attrs["provenance"]["basis"]["from"] == "given"
    assert found.attrs["provenance"]["calibration"]["values"]["q_step"] == 0.04
    assert float(found["scan_x"][1]) == 5.0
    np.testing.assert_allclose(found["g1"][0, 0], g1, rtol=0.03)
    scan_axes = run(scan, tmp_path / "out", calibration=c, g1=tuple(g1), g2=tuple(g2))
    np.testing.assert_allclose(scan_axes["strain_xx"], found["strain_yy"], atol=1e-9)
    assert scan.attrs["calibration"]["q_step"] == 0.02  # the user's scan is not changed


def test_the_ellipse_is_undone(tmp_path):
    scan = simulate_scan(
        scan=(3, 5),
        detector=(96, 112),
        radius=4.2,
        g1=(5.2, 17.0),
        g2=(17.0, -5.2),
        ellipse=(1.05, 30.0),
        strain=0.0,
        rotation=0.0,
        structure=0.0,
        dose=2e5,
        blocks=None,
    )
    a = np.radians(30)
    axis = np.array([np.sin(a), np.cos(a)])
    undo = np.linalg.inv(np.eye(2) + 0.05 * np.outer(axis, axis))
    found = run(scan, tmp_path / "out", transform=undo.tolist())
    lengths = np.hypot(*np.moveaxis(found["g1"].values, -1, 0))
    np.testing.assert_allclose(lengths, 0.02 * np.hypot(5.2, 17.0), rtol=1e-3)


def test_vectors_come_in_pairs():
    with pytest.raises(ParameterError, match="together"):
        Settings(g1=(1.0, 0.0))


def test_unknown_settings_are_refused(scan, tmp_path):
    with pytest.raises(TypeError, match="magic"):
        run(scan, tmp_path / "out", magic=3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 5)])
def test_scans_of_any_shape(shape, tmp_path):
    scan = simulate_scan(
        scan=shape,
        detector=(96, 80),
        radius=4.0,
        g1=(3.0, 15.0),
        g2=(15.0, -3.0),
        dose=1e5,
        blocks=None,
    )
    found = run(scan, tmp_path / "out")
    assert (found["lattice_status"].values == 0).all()
    error = found["strain_xx"].values - scan["true_strain_xx"].values
    assert np.abs(error - np.median(error)).max() < 6e-3


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4"])
def test_scans_of_any_dtype(dtype, scan, tmp_path, results):
    other = scan[["pattern"]].astype(dtype).assign_attrs(scan.attrs)
    found = run(other, tmp_path / "out")
    np.testing.assert_allclose(found["strain_xx"], results["strain_xx"], atol=2e-4)


def test_a_detector_of_ones_own(scan, tmp_path, probe):
    class Own:
        max_peaks = 64

        def __call__(self, patterns):
            found = load_detector("template", probe)(patterns)
            names = [f.name for f in fields(Peaks) if f.name != "status"]
            cut = {n: getattr(found, n)[:, :64] for n in names}
            return Peaks(**cut, status=found.status)

    found = run(scan, tmp_path / "out", detector=Own())
    assert found.attrs["provenance"]["detector"]["type"] == "Own"
    assert found["bragg_q"].sizes["peak"] == 64


def test_finished_results_can_be_opened_again(scan, tmp_path):
    found = run(scan, tmp_path / "out")
    xr.testing.assert_identical(open_results(tmp_path / "out").load(), found.load())


def test_a_part_of_a_calibration_leaves_the_rest_to_the_file(scan, tmp_path):
    whole = Calibration(q_step=0.03, scan_step=2.0, scan_rotation=12.0)
    bare = scan[["pattern"]].drop_vars([*SCAN, *Q])  # whose axes would win
    save_scan(bare.assign_attrs(calibration=whole.to_dict()), tmp_path / "s")
    for given in (tmp_path / "s", open_scan(tmp_path / "s")):
        out = run(given, tmp_path / "out", calibration=Calibration(scan_step=3.0))
        kept = out.attrs["calibration"]
        assert (kept["q_step"], kept["scan_step"]) == (0.03, 3.0)
        assert kept["scan_rotation"] == 12.0
    parallel = Calibration(scan_rotation=0.0)
    out = run(tmp_path / "s", tmp_path / "out", calibration=parallel)
    assert out.attrs["calibration"]["scan_rotation"] == 0.0


def test_axes_that_the_scan_brought_stay_where_nothing_else_is_given(scan, tmp_path):
    plain = scan[["pattern"]].assign_attrs({})
    plain.attrs.clear()
    found = run(plain, tmp_path / "a").load()
    again = run(plain, tmp_path / "b", calibration=Calibration(voltage=300.0)).load()
    np.testing.assert_array_equal(found["g1"], again["g1"])
    assert again.attrs["calibration"]["voltage"] == 300.0


def test_axes_that_are_missing_are_those_of_the_calibration(scan, tmp_path):
    bare = scan[["pattern"]]
    found = run(bare.drop_vars(["q_y", "q_x"]), tmp_path / "a")
    np.testing.assert_allclose(found["g1"], run(bare, tmp_path / "b")["g1"], rtol=1e-6)


def test_settings_without_sense_are_refused_before_any_work(scan, tmp_path):
    wrong = [
        {"origin": "sphere"},
        {"axes": float("nan")},
        {"g1": (0, 1), "g2": (0, 2)},
        {"reference": (slice(90, 99), slice(None))},
        {"reference": (0, slice(0, 2))},
        {"vacuum_region": ([0, 1], [0, 1])},
        {"transform": [[1, 0], [0, 1], [0, 0]]},
        {"transform": [[1, 2], [2, 4]]},
        {"grains": 0},
        {"calibration": {"q_step": 0.1}},
        {"detector": 3},
    ]
    for settings in wrong:
        with pytest.raises(ParameterError, match=next(iter(settings))):
            run(scan, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
