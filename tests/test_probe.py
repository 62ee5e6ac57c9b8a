"""The probe of a scan, from wherever it can be had."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import (
    Calibration,
    estimate_probe,
    load_detector,
    open_scan,
    run,
    save_scan,
    simulate_scan,
)
from fcunet_dask.errors import AnalysisError, ParameterError
from fcunet_dask.schema import PATTERN
from tests.strategies import two_lattices

SMALL = {
    "scan": (3, 8),
    "detector": (80, 96),
    "radius": 4.2,
    "g1": (4.0, 15.0),
    "g2": (15.0, -4.0),
    "blocks": None,
}
SEMIANGLE = 2.1067
"""mrad, of disks of 4.2 px of 0.02 1/Å at 200 kV (λ = 0.0250793 Å; 4.2 · 0.02 · λ)."""


@pytest.fixture(scope="module")
def vacuum_right():
    """Three columns of vacuum on the right, whose beam is brighter."""
    return simulate_scan(
        **SMALL, vacuum_columns=3, structure=0.0, descan=(0, 0), background=0.0
    ).drop_vars("probe")


def test_names_dims_and_attributes(scan):
    probe = estimate_probe(scan)
    assert probe["probe"].dims == ("q_y", "q_x")
    assert probe["mask"].dtype == bool
    assert probe["mask"].all()
    assert set(probe.attrs) >= {
        "radius",
        "edge",
        "center",
        "structure",
        "gain",
        "readout",
        "dark",
        "origin",
    }
    np.testing.assert_array_equal(probe["q_y"], scan["q_y"])


def test_a_probe_in_the_file_is_measured(scan):
    probe = estimate_probe(scan)
    assert probe.attrs["origin"] == "file"
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.02)
    assert probe.attrs["edge"] == pytest.approx(0.5, abs=0.03)
    centre = (96 / 2 - 0.37, 112 / 2 + 0.21)
    assert probe.attrs["center"] == pytest.approx(centre, abs=0.02)
    assert not probe.attrs["patterned"]


def test_a_region_of_vacuum(vacuum_right):
    region = (slice(None), slice(5, 8))
    probe = estimate_probe(vacuum_right, region=region)
    truth = vacuum_right["pattern"].values[:, 5:].sum(axis=(0, 1))
    np.testing.assert_array_equal(probe["probe"], truth)
    assert probe.attrs["origin"] == "region"
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.05)
    assert probe.attrs["center"] == pytest.approx(
        (80 / 2 - 0.37, 96 / 2 + 0.21), abs=0.05
    )


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_a_vacuum_scan_of_any_length(ndim, vacuum_right):
    vacuum = vacuum_right["pattern"].values[:, 5:].astype(float)
    shaped = {2: vacuum.sum((0, 1)), 3: vacuum.reshape(-1, 80, 96), 4: vacuum}[ndim]
    probe = estimate_probe(vacuum_right, vacuum=shaped)
    np.testing.assert_allclose(probe["probe"], vacuum.sum(axis=(0, 1)))
    assert probe.attrs["origin"] == "vacuum scan"


def test_the_disks_of_the_scan_where_nothing_else_is_known(scan):
    probe = estimate_probe(scan.drop_vars("probe"))
    assert probe.attrs["origin"] == "disks of the scan"
    assert probe.attrs["radius"] == pytest.approx(4.2, rel=0.12)


def test_a_probe_made_from_the_semiangle(scan):
    known = scan.drop_vars("probe")
    known.attrs = {"calibration": Calibration(q_step=0.02, voltage=200).to_dict()}
    probe = estimate_probe(known, semiangle=0.95 * SEMIANGLE)
    assert probe.attrs["origin"] == "semiangle"
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.05)  # refined on the disks
    expected = np.pi * (probe.attrs["radius"] ** 2 + probe.attrs["edge"] ** 2)
    assert float(probe["probe"].sum()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("wrong", [0.5, 0.7, 0.8, 1.2, 1.25, 1.3, 1.5, 2.0])
def test_a_semiangle_that_is_not_that_of_the_disks_is_not_believed(wrong, scan):
    known = scan.drop_vars("probe")
    known.attrs = {"calibration": Calibration(q_step=0.02, voltage=200).to_dict()}
    probe = estimate_probe(known, semiangle=wrong * SEMIANGLE)
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.05)
    assert probe.attrs["origin"].startswith("disks of the scan; semiangle says ")
    assert float(probe.attrs["origin"].split()[-2]) == pytest.approx(
        4.2 * wrong, abs=0.01
    )


@pytest.mark.parametrize(
    ("radius", "turn"), [(2.5, 30), (3.0, 10), (4.0, 10), (4.0, 30), (5.0, 30)]
)
def test_crystals_one_upon_the_other_do_not_make_disks_larger(radius, turn):
    """Disks of one overlap those of the other, and what two cover, one would fill."""
    patterns, _, _ = two_lattices(np.random.default_rng(7), radius, turn, n=16)
    scan = patterns.reshape(4, 4, *patterns.shape[1:])
    found = estimate_probe(xr.Dataset({"pattern": (PATTERN.dims, scan)}))
    assert found.attrs["radius"] == pytest.approx(radius, rel=0.07)


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_a_gap_across_the_direct_beam_does_not_make_disks_smaller(width):
    """Crumbs of the brightest disk are like a small one."""
    scan = simulate_scan(scan=(4, 8), blocks=None).drop_vars("probe")
    mask = np.ones((128, 128), bool)
    first = 64 - width // 2
    mask[first : first + width] = mask[:, first : first + width] = False
    probe = estimate_probe(scan.assign(mask=(("q_y", "q_x"), mask)))
    assert probe.attrs["radius"] == pytest.approx(5, abs=0.05)


def test_what_is_given_comes_before_what_is_found(scan):
    vacuum = np.roll(scan["probe"].values, 5, axis=0)
    probe = estimate_probe(scan, vacuum=vacuum, region=(slice(1), slice(1)))
    assert probe.attrs["origin"] == "vacuum scan"


def test_hot_pixels_are_masked_and_counted(scan):
    hot = scan.copy()
    hot["pattern"] = scan["pattern"].copy()
    hot["pattern"][:, :, 7, 9] = 60_000
    probe = estimate_probe(hot)
    assert np.argwhere(~probe["mask"].values).tolist() == [[7, 9]]
    assert probe.attrs["bad_pixels"] == 1


def test_dead_pixels_that_are_nan_are_masked(scan):
    broken = scan[["pattern"]].astype("f4")
    broken["pattern"][:, :, 7, 9] = np.nan
    broken["pattern"][2, 3, 40, 50] = np.nan
    probe = estimate_probe(broken)
    assert np.argwhere(~probe["mask"].values).tolist() == [[7, 9]]
    assert probe.attrs["radius"] == pytest.approx(4.2, rel=0.12)


def test_a_mask_of_the_scan_is_kept(scan):
    mask = np.ones((96, 112), bool)
    mask[:, :10] = False
    probe = estimate_probe(scan.assign(mask=(("q_y", "q_x"), mask)))
    np.testing.assert_array_equal(probe["mask"], mask)


def test_files_are_sampled_like_memory(scan, tmp_path):
    bare = scan.drop_vars("probe")
    save_scan(bare, tmp_path / "a.zarr")
    stored = estimate_probe(open_scan(tmp_path / "a.zarr"))
    assert stored.attrs["radius"] == estimate_probe(bare).attrs["radius"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_scans_of_one_row_column_or_position(shape):
    scan = simulate_scan(**{**SMALL, "scan": shape}, dose=1e5).drop_vars("probe")
    assert estimate_probe(scan).attrs["radius"] == pytest.approx(4.2, rel=0.15)


def test_the_gain_of_the_camera(scan):
    scaled = scan[["pattern"]].assign_attrs(scan.attrs)
    scaled["pattern"] = scan["pattern"].astype("f4") * 37.0
    probe = estimate_probe(scaled)
    assert probe.attrs["gain"] == pytest.approx(37, rel=0.15)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"semiangle": 2.0}, ParameterError, "voltage and q_step"),
        ({"region": (slice(50, 60), slice(0, 3))}, ParameterError, "no position"),
        ({"vacuum": np.ones((5, 5))}, ParameterError, "shape"),
        ({"vacuum": np.zeros((96, 112))}, AnalysisError, "no disk in the probe"),
    ],
)
def test_what_cannot_be_measured_is_named(options, error, words, scan):
    with pytest.raises(error, match=words):
        estimate_probe(scan.drop_vars("probe"), **options)


def test_a_probe_larger_than_the_pattern_is_refused(scan):
    large = scan.drop_vars(["probe", "q_y", "q_x"])
    large.attrs = {"calibration": Calibration(q_step=0.001, voltage=200).to_dict()}
    with pytest.raises(AnalysisError, match="does not fit"):
        estimate_probe(large, semiangle=5.0)


def saturated(scan, bits):
    """The vacuum probe on a camera of so many bits, its middle cut off."""
    image = scan["probe"].to_numpy()
    counts = np.random.default_rng(1).poisson(image * (3.0 * 2**bits / image.max()))
    return np.minimum(counts, 2**bits - 1).astype(np.uint32)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_saturated_probe_is_refused(scan, bits):
    """It would give too large a radius without a word."""
    counts = saturated(scan, bits)
    with pytest.raises(AnalysisError, match=rf"hold {2**bits - 1}, .*{bits} bits"):
        estimate_probe(scan, vacuum=counts)
    with pytest.raises(AnalysisError, match=r"\(file\) is saturated"):
        estimate_probe(scan.assign(probe=(("q_y", "q_x"), counts)))
    whole = scan.assign(pattern=scan["pattern"] * 0 + counts.astype(np.float32))
    with pytest.raises(AnalysisError, match=r"\(region\) is saturated"):
        estimate_probe(whole, region=(slice(0, 2), slice(0, 2)))


def test_a_saturated_vacuum_file_is_refused(scan, tmp_path):
    """A sum of frames that are cut off is itself no power of two."""
    frames = np.broadcast_to(saturated(scan, 8).astype(np.uint8), (3, 5, 96, 112))
    np.save(tmp_path / "vacuum.npy", frames)
    with pytest.raises(AnalysisError, match=r"\(vacuum scan\) is saturated"):
        run(scan, tmp_path / "out", vacuum=tmp_path / "vacuum.npy")
    np.save(tmp_path / "vacuum.npy", frames // 2)
    results = run(scan, tmp_path / "out", vacuum=tmp_path / "vacuum.npy")
    np.testing.assert_array_equal(results["probe"], 15.0 * (frames[0, 0] // 2))


def test_no_good_pixel_is_lost_to_the_gain(scan):
    bare = scan.drop_vars("probe").astype(np.float32)
    for gain in (1, 150):
        counts = bare.assign(pattern=gain * bare["pattern"])
        probe = estimate_probe(counts)
        assert probe["mask"].all()
        assert probe.attrs["gain"] == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_a_dark_level_is_taken_off(kind, scan):
    counts = scan["pattern"].astype(kind)
    if kind is np.float32:
        noise = np.random.default_rng(2).normal(0, 1.5, counts.shape)
        counts = counts + noise.astype(kind)
    plain, raised = (estimate_probe(scan.assign(pattern=counts + d)) for d in (0, 100))
    assert plain.attrs["dark"] == 0
    assert raised.attrs["dark"] == pytest.approx(100, abs=1)
    for name in ("radius", "edge"):
        assert raised.attrs[name] == pytest.approx(plain.attrs[name], abs=0.06)
    found = load_detector("template", raised)((counts + 100).values[2])
    expected = load_detector("template", plain)(counts.values[2])
    for name in ("position", "covariance"):
        before, after = getattr(expected, name)[:, :5], getattr(found, name)[:, :5]
        np.testing.assert_allclose(after, before, atol=0.03, rtol=0.1)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_the_readout_noise_of_the_camera(sigma, rounded, scan):
    noise = np.random.default_rng(1).normal(0, sigma, scan["pattern"].shape)
    counts = 20 * (scan["pattern"] + noise)
    counts = (np.rint(counts) if rounded else counts).astype(np.float32)
    probe = estimate_probe(scan[["pattern"]].assign(pattern=counts))
    assert probe.attrs["readout"] == pytest.approx(20 * sigma, rel=0.05)
    assert probe.attrs["gain"] == pytest.approx(20, rel=0.2)
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.1)
    assert probe.attrs["edge"] == pytest.approx(0.5, abs=0.2)


def test_a_vacuum_probe_on_a_dark_level(scan):
    dark = scan.assign(pattern=scan["pattern"].astype("f4") + 500)
    image = np.random.default_rng(3).poisson(scan["probe"] / 50) + 500
    probe = estimate_probe(dark, vacuum=image.astype("f4"))
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.1)
    assert abs(np.median(probe["probe"])) < 3


def test_a_probe_that_just_reaches_the_top_is_not_saturated(scan):
    image = scan["probe"].to_numpy()
    counts = np.random.default_rng(1).poisson(image * (3800 / image.max()))
    counts = np.minimum(counts, counts.max())
    counts[counts == counts.max()] = 4095
    assert abs(estimate_probe(scan, vacuum=counts).attrs["radius"] - 4.2) < 0.05


@pytest.mark.parametrize("most", [300, 5000])
def test_hot_pixels_of_any_height_are_not_the_noise_of_a_gain(most):
    scan = simulate_scan(**SMALL | {"detector": (128, 128)}, dose=5e4, background=0.02)
    scan = scan.drop_vars("probe")
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(0, 128, (2, 40))
    hot = scan["pattern"].values.astype(np.uint32)
    hot[:, :, rows, columns] = rng.integers(20, most, 40)
    plain, found = (
        estimate_probe(s)
        for s in (scan, scan.assign(pattern=(scan["pattern"].dims, hot)))
    )
    assert found.attrs["gain"] == pytest.approx(1, rel=0.1)
    marked = ~found["mask"].values
    assert marked[rows, columns].mean() > 0.8
    marked[rows, columns] = False
    assert not marked.any()
    assert found.attrs["radius"] == pytest.approx(plain.attrs["radius"], abs=0.03)


def test_hot_pixels_at_the_top_are_no_saturation(scan):
    image = scan["probe"].to_numpy()
    counts = np.random.default_rng(1).poisson(image * (9000 / image.max()))
    rows, columns = np.indices((4, 5)) * 7 + 3
    counts[rows, columns] = 65535
    estimate_probe(scan, vacuum=counts)  # does not raise
    gap = np.ones(image.shape, bool)
    gap[:, 10:13] = False
    counts[:, 10:13] = 65535
    masked = scan.assign(mask=(("q_y", "q_x"), gap))
    found = estimate_probe(masked, vacuum=counts)
    assert found.attrs["origin"] == "vacuum scan"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * np.nan, "all pixels are NaN or infinite"),
        (lambda x: x * 0, "all pixels are 0"),
        (lambda x: np.where(x < 2, np.nan, 0), "all other pixels are 0"),
        (lambda x: -1 - x, "all pixels are negative, down to"),
        (lambda x: x.transpose(2, 3, 0, 1), "transpose the array to scan_y"),
    ],
)
def test_what_is_wrong_with_patterns_without_disks_is_named(change, words, scan):
    pattern = scan["pattern"]
    counts = np.ascontiguousarray(change(pattern.values.astype(np.float32)))
    with pytest.raises(AnalysisError, match=words):
        estimate_probe(xr.Dataset({"pattern": (pattern.dims, counts)}))


def test_noise_alone_has_nothing_odd(scan):
    noise = np.random.default_rng(0).poisson(5.0, scan["pattern"].shape)
    with pytest.raises(AnalysisError, match="in the scan: nothing in its patterns"):
        estimate_probe(xr.Dataset({"pattern": (scan["pattern"].dims, noise)}))
