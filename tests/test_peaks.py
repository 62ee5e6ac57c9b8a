"""Bragg vectors of a scan: labelled, lazy, and the same however it is cut."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from fcunet_dask import bragg_vector_map, connect_cluster, find_bragg_vectors
from fcunet_dask.errors import ParameterError, SchemaError
from fcunet_dask.kernels.basis import bragg_histogram
from fcunet_dask.model import Peaks
from fcunet_dask.peaks import to_table
from fcunet_dask.schema import BRAGG_VARIABLES, validate


class Echo:
    """One disk a pattern, at its brightest pixel."""

    max_peaks = 3

    def __call__(self, patterns):
        peaks = Peaks.empty(len(patterns), 3)
        flat = patterns.reshape(len(patterns), -1).argmax(axis=1)
        row, column = np.unravel_index(flat, patterns.shape[1:])
        peaks.position[:, 0] = np.stack([row, column], -1)
        peaks.covariance[:, 0] = [0.04, 0.01, 0.09]
        peaks.intensity[:, 0] = patterns.max(axis=(1, 2))
        peaks.score[:, 0] = 1
        return peaks


def one_spot(shape=(3, 4, 10, 14)):
    data = np.zeros(shape, np.uint16)
    rng = np.random.default_rng(1)
    at = np.stack([rng.integers(0, n, shape[:2]) for n in shape[2:]], -1)
    for y in range(shape[0]):
        for x in range(shape[1]):
            data[y, x, *at[y, x]] = 10 + y + x
    axes = {
        "q_y": ("q_y", (np.arange(shape[2]) - 5) * 0.02, {"units": "1/Å"}),
        "q_x": ("q_x", (np.arange(shape[3]) - 7) * -0.02, {"units": "1/Å"}),
        "scan_y": ("scan_y", np.arange(shape[0]) * 2.0, {"units": "nm"}),
    }
    dims = ("scan_y", "scan_x", "q_y", "q_x")
    return xr.Dataset(
        {"pattern": (dims, data)}, axes, {"calibration": {"q_step": 1}}
    ), at


def test_positions_are_in_the_coordinates_of_the_scan():
    scan, at = one_spot()
    bragg = find_bragg_vectors(scan, Echo()).compute()
    truth = np.stack(
        [scan["q_y"].values[at[..., 0]], scan["q_x"].values[at[..., 1]]], -1
    )
    np.testing.assert_allclose(bragg["bragg_q"][:, :, 0], truth, atol=1e-6)
    covariance = 0.02**2 * np.array([0.04, -0.01, 0.09])
    np.testing.assert_allclose(
        bragg["bragg_covariance"][1, 2, 0], covariance, rtol=1e-5
    )
    assert np.isnan(bragg["bragg_q"][:, :, 1:]).all()


def test_names_dims_units_and_coordinates():
    scan, _ = one_spot()
    bragg = find_bragg_vectors(scan, Echo())
    validate(bragg, *BRAGG_VARIABLES)
    assert bragg["bragg_q"].attrs["units"] == "1/Å"
    assert bragg["bragg_covariance"].attrs["units"] == "1/Å²"
    assert bragg["bragg_intensity"].attrs["units"] == "counts"
    assert bragg["component"].values.tolist() == ["y", "x"]
    assert bragg["scan_y"].values.tolist() == [0, 2, 4]
    assert bragg.attrs["calibration"]["q_step"] == pytest.approx(0.02)  # of the axes
    assert bragg["pattern_status"].dtype == np.uint8


def test_it_is_lazy(scan, detector, never):
    bragg = find_bragg_vectors(scan.chunk(scan_y=3, scan_x=4), detector)
    assert all(isinstance(v.data, da.Array) for v in bragg.data_vars.values())
    bragg_vector_map(bragg, step=0.01, extent=1.0)


@pytest.fixture(scope="module")
def whole(scan, detector):
    return find_bragg_vectors(scan, detector).compute()


@pytest.mark.parametrize("chunks", [(2, 3), (1, 8), (6, 1), (5, 5)])
def test_chunks_do_not_matter(chunks, scan, detector, whole):
    cut = scan.chunk(scan_y=chunks[0], scan_x=chunks[1])
    found = find_bragg_vectors(cut, detector).compute()
    for name in ("bragg_q", "bragg_intensity", "bragg_covariance"):
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found["pattern_status"], whole["pattern_status"])


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_do_not_matter(scheduler, scan, detector):
    cut = find_bragg_vectors(scan.chunk(scan_y=2, scan_x=4), detector)
    with dask.config.set(scheduler="synchronous"):
        expected = cut["bragg_q"].values
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(cut["bragg_q"].values, expected)


@pytest.mark.slow
def test_worker_processes_do_not_matter(scan, detector, whole):
    with connect_cluster(n_workers=2, processes=True) as client:
        cut = find_bragg_vectors(scan.chunk(scan_y=2, scan_x=4), detector)
        found = client.compute(cut).result()
        client.cluster.close()
    np.testing.assert_allclose(found["bragg_q"], whole["bragg_q"], atol=1e-6)


def test_the_map_is_the_histogram_however_it_is_cut(whole):
    step, extent = 0.01, 0.9
    plain = bragg_vector_map(whole, step=step, extent=extent)
    weights = np.sqrt(whole["bragg_intensity"].values)
    direct = bragg_histogram(whole["bragg_q"].values, weights, plain.shape, step)
    np.testing.assert_allclose(plain, direct)
    cut = whole.chunk(scan_y=2, scan_x=3)
    tree = bragg_vector_map(cut, step=step, extent=extent)
    assert isinstance(tree.data, da.Array)
    np.testing.assert_allclose(tree, direct, rtol=1e-9)
    assert float(plain["q_y"][plain.shape[0] // 2]) == 0
    assert plain["q_x"].attrs["units"] == "1/Å"


def test_making_a_map_leaves_the_vectors_alone(whole):
    before = whole.copy(deep=True)
    bragg_vector_map(whole, step=0.01, extent=1.0)
    xr.testing.assert_identical(whole, before)


@pytest.mark.parametrize(
    ("step", "extent"), [(0, 1), (-1, 1), (0.1, 0.05), (np.nan, 1)]
)
def test_senseless_maps_are_refused(step, extent, whole):
    with pytest.raises(ParameterError, match="step must be positive"):
        bragg_vector_map(whole, step=step, extent=extent)


def test_the_table_has_a_row_a_disk(whole):
    table = to_table(whole)
    assert len({len(v) for v in table.values()}) == 1
    i = 17
    row = whole.isel(scan_y=table["scan_y"][i], scan_x=table["scan_x"][i])
    at = np.flatnonzero(row["bragg_intensity"].values == table["intensity"][i])
    np.testing.assert_array_equal(
        row["bragg_q"].values[at[0]], [table["q_y"][i], table["q_x"][i]]
    )


def test_uneven_coordinates_are_refused():
    scan, _ = one_spot()
    uneven = scan.assign_coords(q_y=scan["q_y"].values ** 3)
    with pytest.raises(SchemaError, match="'q_y' must be evenly spaced"):
        find_bragg_vectors(uneven, Echo())
