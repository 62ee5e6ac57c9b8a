"""Silent defects of py4DSTEM 0.14.18, one by one, as tests of ours."""

import numpy as np
import pytest
from fcunet_dask import (
    Calibration,
    apply_calibration,
    bragg_vector_map,
    estimate_probe,
    find_bragg_vectors,
    load_detector,
    measure_origin,
    run,
    simulate_scan,
)
from fcunet_dask.kernels.correlation import bin_patterns
from fcunet_dask.model import PatternStatus, Peaks
from fcunet_dask.pipeline import open_results

SMALL = {
    "scan": (4, 6),
    "detector": (80, 96),
    "radius": 4.0,
    "g1": (4.0, 15.0),
    "g2": (15.0, -4.0),
    "dose": 1e5,
    "blocks": None,
}


@pytest.fixture(scope="module")
def small():
    return simulate_scan(**SMALL)


@pytest.fixture(scope="module")
def bragg(small):
    return find_bragg_vectors(small, load_detector(radius=4.0)).compute()


def changed(scan, change):
    out = scan[["pattern"]].assign_attrs(scan.attrs)
    out["pattern"] = scan["pattern"].astype("f4")
    change(out["pattern"].values)
    return out


@pytest.mark.parametrize("chunks", [(4, 6), (1, 1), (3, 5)])
def test_1_every_detector_finds_disks_in_the_whole_scan(chunks, small):
    """ML on a whole cube gave no peaks, and the last partial batch was dropped."""

    class Brightest:
        max_peaks = 1

        def __call__(self, patterns):
            peaks = Peaks.empty(len(patterns), 1)
            flat = patterns.reshape(len(patterns), -1).argmax(axis=1)
            at = np.stack(np.unravel_index(flat, patterns.shape[1:]), -1)
            peaks.position[:, 0] = at
            return peaks

    cut = small.chunk(scan_y=chunks[0], scan_x=chunks[1])
    for detector in (Brightest(), load_detector(radius=4.0)):
        found = find_bragg_vectors(cut, detector).compute()
        assert np.isfinite(found["bragg_q"][:, :, 0]).all()


def test_2_a_vacuum_region_is_the_one_that_was_asked_for(small):
    """A region was always taken from the top-left corner."""
    region = (slice(1, 3), slice(4, 6))
    found = estimate_probe(small, region=region)
    truth = small["pattern"].values[1:3, 4:6].astype(float).sum(axis=(0, 1))
    np.testing.assert_array_equal(found["probe"], truth)


def test_3_no_pattern_of_the_vacuum_is_dropped_and_none_is_changed(small):
    """The first pattern was left out of the average; the datacube was changed."""
    before = small["pattern"].values.copy()
    one = (slice(0, 1), slice(0, 1))
    found = estimate_probe(small, region=one)
    np.testing.assert_array_equal(found["probe"], before[0, 0])
    vacuum = np.stack([before[0, 0] * 10, before[0, 0], before[0, 0]])
    summed = estimate_probe(small, vacuum=vacuum)
    np.testing.assert_array_equal(summed["probe"], 12.0 * before[0, 0])
    np.testing.assert_array_equal(small["pattern"], before)


@pytest.mark.parametrize("shape", [(2, 7), (7, 2)])
def test_4_binning_does_not_overflow_nor_leave_rows_out(shape):
    """4 × 40000 became 28928 in uint16; scans that are not square kept zeros."""
    counts = np.full((*shape, 4, 6), 40_000, np.uint16)
    binned = bin_patterns(counts.reshape(-1, 4, 6), 2)
    assert (binned == 160_000).all()
    assert binned.shape == (14, 2, 3)


def test_4_scans_that_are_not_square_are_whole():
    for shape in ((2, 9), (9, 2)):
        scan = simulate_scan(**{**SMALL, "scan": shape})
        found = find_bragg_vectors(scan, load_detector(radius=4.0))
        assert np.isfinite(found["bragg_q"][:, :, 0].values).all()
        away = found["bragg_q"][:, :, 0].values - scan["true_origin"].values
        assert np.abs(away).max() < 0.3 * 0.02


def test_5_coordinates_follow_a_cropped_or_binned_detector(small, bragg):
    """Cropping and binning left origin and probe where they had been."""
    cropped = small.isel(q_y=slice(4, 80), q_x=slice(8, 96))
    found = find_bragg_vectors(cropped, load_detector(radius=4.0))
    np.testing.assert_allclose(
        found["bragg_q"][:, :, 0], bragg["bragg_q"][:, :, 0], atol=0.1 * 0.02
    )
    binned = small.coarsen(q_y=2, q_x=2).sum()
    binned["pattern"] = binned["pattern"].astype("f4")
    half = find_bragg_vectors(binned, load_detector(radius=2.0, edge=0.3))
    np.testing.assert_allclose(
        half["bragg_q"][:, :, 0], bragg["bragg_q"][:, :, 0], atol=0.2 * 0.04
    )


def test_6_one_excluded_position_excludes_itself_only(bragg):
    """A mask with one position masked the whole scan."""
    truth = measure_origin(bragg)["origin"]
    broken = bragg.copy(deep=True)
    broken["bragg_q"].values[2, 3] = np.nan
    found = measure_origin(broken)
    assert found.attrs["measured"] == 23
    np.testing.assert_allclose(found["origin"], truth, atol=0.05 * 0.02)


def test_7_a_map_changes_no_intensity(bragg):
    """Weights were multiplied into the stored peaks."""
    before = bragg["bragg_intensity"].values.copy()
    for _ in range(2):
        bragg_vector_map(bragg, step=0.02, extent=1.0)
    apply_calibration(bragg, transform=2 * np.eye(2))
    np.testing.assert_array_equal(bragg["bragg_intensity"], before)


def test_8_an_empty_pattern_does_not_cost_the_origin_of_the_others(small):
    """One empty pattern replaced the whole mask by False."""

    def empty(data):
        data[1, 2] = 0

    found = find_bragg_vectors(changed(small, empty), load_detector(radius=4.0))
    origin = measure_origin(found)
    assert origin.attrs["measured"] == 23
    away = origin["origin"].values - small["true_origin"].values
    assert np.abs(away).max() < 0.1 * 0.02


def test_9_the_pixel_of_q_is_not_that_of_the_scan():
    """`qpixsize` was the step of the scan."""
    c = Calibration(q_step=0.02, scan_step=5.0)
    assert np.diff(c.q_axis(5)).tolist() == pytest.approx([0.02] * 4)
    assert np.diff(c.scan_axis(3)).tolist() == pytest.approx([5.0] * 2)


def test_10_every_option_does_something(small):
    """`sigmoid_log` was `sigmoid`; a measured origin was never used."""
    patterns = small["pattern"].values[0, :2]
    seen = set()
    for options in (
        *({"method": "cross", "kernel": k} for k in ("flat", "trench", "edge")),
        *({"method": m, "kernel": "flat"} for m in ("hybrid", "phase", "normalized")),
    ):
        found = load_detector(radius=4.0, subpixel="dft", **options)(patterns)
        seen.add(found.position.tobytes())
    assert len(seen) == 6
    image = np.roll(small["probe"].values, (9, -7), (0, 1))
    first = load_detector(radius=4.0, image=small["probe"].values, center=(39.6, 48.2))
    moved = load_detector(radius=4.0, image=image, center=(48.6, 41.2))
    np.testing.assert_allclose(
        moved(patterns).position, first(patterns).position, atol=0.02
    )


def test_11_positions_without_a_lattice_are_nan_with_their_reason(small, tmp_path):
    """They were +100 % strain; `error` was memory that had never been written."""

    def empty(data):
        data[1, 2] = 0

    found = run(changed(small, empty), tmp_path / "out")
    for name in ("strain_xx", "strain_yy", "strain_xy", "rotation", "residual"):
        values = found[name].values
        assert np.isnan(values[1, 2])
        assert np.isfinite(values).sum() == 23
    assert found["lattice_status"].values[1, 2] != 0
    again = open_results(tmp_path / "out")
    np.testing.assert_array_equal(again["strain_xx"], found["strain_xx"])


def test_12_a_nan_pixel_costs_no_disk_and_is_reported(small, bragg):
    """One NaN removed all peaks of its pattern without a word."""

    def spoil(data):
        data[3, 1, 2, 3] = np.nan

    found = find_bragg_vectors(
        changed(small, spoil), load_detector(radius=4.0)
    ).compute()
    status = found["pattern_status"].values
    assert status[3, 1] == PatternStatus.NOT_FINITE
    assert (status != 0).sum() == 1
    disks, before = (
        np.isfinite(b["bragg_q"].values[3, 1, :, 0]) for b in (found, bragg)
    )
    assert disks.sum() == before.sum()
