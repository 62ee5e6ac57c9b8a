"""Template matching finds the disks that were put in, whatever the settings."""

import pickle

import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.model import DiskDetector, PatternStatus, TemplateMatching
from fcunet_dask.model.arrange import clean

SHAPE = (80, 96)
RADIUS = 4.2
RMS = {"none": 0.35, "parabola": 0.15, "dft": 0.1, "fit": 0.06}
"""px per axis at 2·10⁵ electrons; a square pixel alone has 0.29."""


def disk_places(rng, n=6):
    """Positions (n, disks, 2) on lattices that lie differently in every pattern."""
    axis = np.arange(-3, 4)
    hk = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    G = np.array([[4.4, 14.3], [14.3, -4.4]])
    places = hk @ G
    fits = (np.abs(places) < np.array(SHAPE) / 2 - 8).all(axis=1)
    middle = np.array(SHAPE) / 2 + rng.uniform(-0.5, 0.5, (n, 1, 2))
    return middle + places[fits]


def pattern_mean(places, electrons, radius=RADIUS, background=0.03):
    images = []
    for at in places:
        share = np.linspace(1.5, 0.5, len(at))
        image = sum(
            s * disk_image(SHAPE, tuple(c), radius, 0.5)
            for s, c in zip(share, at, strict=True)
        )
        images.append((1 - background) * image / image.sum() + background / image.size)
    return electrons * np.array(images)


@pytest.fixture(scope="module")
def places():
    return disk_places(np.random.default_rng(1))


@pytest.fixture(scope="module")
def patterns(places):
    mean = pattern_mean(places, 2e5)
    return np.random.default_rng(2).poisson(mean).astype(np.uint16)


def errors_of(peaks, places):
    """Distance of each found disk from the true one nearest to it; how many are."""
    away, found = [], 0
    for i, at in enumerate(places):
        here = peaks.position[i][np.isfinite(peaks.position[i][:, 0])]
        difference = here[:, None] - at[None]
        nearest = np.hypot(*np.moveaxis(difference, -1, 0)).argmin(axis=1)
        assert len(set(nearest.tolist())) == len(here)
        away.append(difference[np.arange(len(here)), nearest])
        found += len(here)
    return np.concatenate(away), found


CASES = [("normalized", "trench")] + [
    (method, kernel)
    for method in ("cross", "hybrid")
    for kernel in ("flat", "trench", "edge")
]


@pytest.mark.parametrize("subpixel", RMS)
@pytest.mark.parametrize(("method", "kernel"), CASES)
def test_every_setting_finds_the_disks(method, kernel, subpixel, patterns, places):
    detector = TemplateMatching(
        radius=RADIUS,
        method=method,
        kernel=kernel,
        subpixel=subpixel,
        min_relative=0.2 if method != "normalized" else 0.0,
        structure=0.05,
    )
    away, found = errors_of(detector(patterns), places)
    assert found == places.shape[0] * places.shape[1]
    rms = np.sqrt((away**2).mean(axis=0))
    assert rms.max() < RMS[subpixel]
    assert np.abs(away.mean(axis=0)).max() < 0.06  # no half-pixel anywhere


@pytest.mark.parametrize("subpixel", RMS)
@pytest.mark.parametrize("kernel", ["flat", "edge"])
def test_phase_correlation_finds_the_brightest(kernel, subpixel, patterns, places):
    """It weighs empty frequencies like full ones: only its highest peaks are sure."""
    detector = TemplateMatching(
        radius=RADIUS, method="phase", kernel=kernel, subpixel=subpixel, max_peaks=6
    )
    away, found = errors_of(detector(patterns), places)
    assert found == 6 * places.shape[0]
    assert np.sqrt((away**2).mean(axis=0)).max() < max(0.2, RMS[subpixel])


def test_error_bars_hold(patterns, places):
    peaks = TemplateMatching(radius=RADIUS, structure=0.02)(patterns)
    away, _ = errors_of(peaks, places)
    sigma = np.sqrt(peaks.covariance[np.isfinite(peaks.position[..., 0])][:, [0, 2]])
    assert np.mean(np.abs(away) < sigma) == pytest.approx(0.683, abs=0.08)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
@pytest.mark.parametrize("dark", [0.0, 150.0])
def test_readout_noise_costs_no_disk_and_makes_none(sigma, dark, patterns, places):
    """Taken for electrons, they hide disks, or their bars are for other noise."""
    noise = np.random.default_rng(4).normal(0, sigma, patterns.shape)
    counts = 5 * (patterns + noise) + dark
    camera = {"gain": 5.0, "readout": 5 * sigma, "dark": dark}
    peaks = TemplateMatching(radius=RADIUS, structure=0.02, **camera)(counts)
    away, found = errors_of(peaks, places)
    assert found == places.shape[0] * places.shape[1]
    sigma = np.sqrt(peaks.covariance[np.isfinite(peaks.position[..., 0])][:, [0, 2]])
    assert np.mean(np.abs(away) < sigma) == pytest.approx(0.683, abs=0.08)


def test_in_readout_noise_alone_there_are_no_disks():
    for sigma in (1.0, 10.0):
        noise = np.random.default_rng(5).normal(0, sigma, (40, *SHAPE))
        peaks = TemplateMatching(radius=RADIUS, readout=sigma)(noise)
        assert np.isfinite(peaks.intensity).sum() <= 2


def test_faint_disks_are_found_in_readout_noise():
    """17 electrons a pixel and more in ±8, on patterns that disks fill."""
    places = disk_places(np.random.default_rng(6))
    image = pattern_mean(places, 1.0, background=0.0)
    counts = np.random.default_rng(7).poisson(image / image.max() * 50)
    counts = counts + np.random.default_rng(8).normal(0, 8.0, counts.shape)
    total = places.shape[0] * places.shape[1]
    _, found = errors_of(TemplateMatching(radius=RADIUS, readout=8.0)(counts), places)
    assert found > 0.95 * total


@pytest.mark.parametrize(
    ("radius", "shape"), [(1.5, (48, 64)), (11.0, (192, 224)), (30.0, (512, 384))]
)
@pytest.mark.parametrize("subpixel", ["fit", "dft"])
def test_disks_of_any_size(radius, shape, subpixel):
    rng = np.random.default_rng(3)
    places = np.array(shape) / 2 + rng.uniform(-0.5, 0.5, 2)
    step = 2.6 * radius + 3
    places = places + step * np.array(
        [[0, 0], [1, 0.2], [-1, 0.1], [0.1, -1], [0.2, 1]]
    )
    image = sum(disk_image(shape, tuple(c), radius, 0.5) for c in places)
    counts = rng.poisson(2e5 * image / image.sum() + 0.01)[None]
    peaks = TemplateMatching(radius=radius, subpixel=subpixel, structure=0.05)(counts)
    away, found = errors_of(peaks, places[None])
    assert found == 5
    assert np.abs(away).max() < (0.12 if subpixel == "fit" else 0.3)


def test_dose_is_in_the_intensity(patterns, places):
    peaks = TemplateMatching(radius=RADIUS, structure=0.05)(patterns)
    share = np.linspace(1.5, 0.5, places.shape[1])
    truth = 2e5 * 0.97 * share / share.sum()
    for row in peaks.intensity:
        here = row[np.isfinite(row)]
        assert (np.diff(here) <= 0).all()
        np.testing.assert_allclose(here, truth, rtol=0.08)


def test_min_spacing_keeps_the_brighter(patterns, places):
    spacing = 15.5  # more than |g|, less than its diagonal
    peaks = TemplateMatching(radius=RADIUS, min_spacing=spacing)(patterns)
    for row in peaks.position:
        here = row[np.isfinite(row[:, 0])]
        distance = np.hypot(*np.moveaxis(here[:, None] - here[None], -1, 0))
        assert distance[distance > 0].min() >= spacing
        assert 5 < len(here) < places.shape[1]


def test_edge_boundary_is_the_width_of_the_empty_border(patterns):
    for width in (0, 20):
        peaks = TemplateMatching(radius=RADIUS, edge_boundary=width)(patterns)
        here = peaks.position[np.isfinite(peaks.position[..., 0])]
        border = np.minimum(here, np.array(SHAPE) - 1 - here).min()
        assert border > width - 1
        assert border < width + 15


def test_limits_on_brightness_are_in_counts(patterns):
    free = TemplateMatching(radius=RADIUS)(patterns).intensity
    least = float(np.nanmedian(free))
    bright = TemplateMatching(radius=RADIUS, min_absolute=least)(patterns).intensity
    assert np.nanmin(bright) >= least
    assert np.isfinite(bright).sum() == (free >= least).sum()
    relative = TemplateMatching(radius=RADIUS, min_relative=0.8, relative_to=2)
    found = relative(patterns).intensity
    for row, every in zip(found, free, strict=True):
        assert np.isfinite(row).sum() == (every >= 0.8 * every[2]).sum()


def test_more_disks_than_max_peaks_are_reported(patterns, places):
    free = TemplateMatching(radius=RADIUS)(patterns)
    peaks = TemplateMatching(radius=RADIUS, max_peaks=5)(patterns)
    assert (peaks.status & PatternStatus.CAPPED).all()
    assert not (free.status & PatternStatus.CAPPED).any()
    np.testing.assert_allclose(peaks.intensity, free.intensity[:, :5], rtol=1e-5)
    exact = TemplateMatching(radius=RADIUS, max_peaks=places.shape[1])(patterns)
    assert not exact.status.any()


def test_a_pixel_without_a_number_costs_that_pixel_only(patterns, places):
    broken = patterns.astype(np.float32)
    broken[2, 11, 12] = np.nan
    broken[4, 40, 50] = np.inf
    peaks = TemplateMatching(radius=RADIUS, structure=0.05)(broken)
    status = [0, 0, 2, 0, 2, 0]
    assert peaks.status.tolist() == status
    away, found = errors_of(peaks, places)
    assert found == places.shape[0] * places.shape[1]
    assert np.abs(away).max() < 0.3


def test_a_column_without_numbers_does_not_pull_disks():
    """As a mask would do it: what is missing is no hole."""
    place, n = (40.2, 47.6), 40
    mean = 1 + 50 * disk_image(SHAPE, place, 6.0, 0.5)
    patterns = np.random.default_rng(8).poisson(mean, (n, *SHAPE)).astype(float)
    patterns[:, :, 42] = np.nan  # through the rim
    peaks = TemplateMatching(radius=6.0)(patterns)
    assert (peaks.status == PatternStatus.NOT_FINITE).all()
    assert abs((peaks.position[:, 0] - place).mean(axis=0)).max() < 0.03


def test_an_empty_pattern_is_reported_and_others_stay(patterns):
    broken = patterns.copy()
    broken[3] = 0
    detector = TemplateMatching(radius=RADIUS)
    peaks, plain = detector(broken), detector(patterns)
    assert peaks.status[3] == PatternStatus.EMPTY | PatternStatus.NO_DISKS
    assert np.isnan(peaks.position[3]).all()
    others = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(
        peaks.position[others], plain.position[others], atol=1e-4
    )


def test_negative_counts_are_reported(patterns, places):
    noisy = patterns.astype(np.float32) - 3
    peaks = TemplateMatching(radius=RADIUS, structure=0.05)(noisy)
    assert (peaks.status == PatternStatus.NEGATIVE).all()
    assert errors_of(peaks, places)[1] == places.shape[0] * places.shape[1]


@pytest.mark.parametrize("hidden", ["corners", "border"])
def test_noise_has_no_disks_under_a_mask(hidden):
    """A round camera in a square frame, and one with a frame of its own."""
    noise = np.random.default_rng(21).poisson(20.0, (6, 128, 128))
    y, x = np.indices((128, 128)) - 63.5
    seen = (
        np.hypot(y, x) < 64 if hidden == "corners" else np.maximum(abs(y), abs(x)) < 56
    )
    assert 0.2 < 1 - seen.mean() < 0.3
    peaks = TemplateMatching(radius=3.0, mask=seen)(noise * seen)
    assert np.isfinite(peaks.intensity).sum() <= 3


def test_noise_has_no_disks():
    noise = np.random.default_rng(4).poisson(5.0, (20, *SHAPE))
    peaks = TemplateMatching(radius=RADIUS)(noise)
    assert np.isfinite(peaks.intensity).sum() <= 2


@pytest.mark.parametrize("value", [65535, 1e9])
def test_a_hot_pixel_in_one_pattern_costs_no_more_than_a_disk(value, patterns, places):
    hot = patterns.astype(np.float32)
    hot[:, 12, 30] = value
    peaks = TemplateMatching(radius=RADIUS, structure=0.05)(hot)
    found = np.isfinite(peaks.position[..., 0]).sum(axis=1)
    assert (found >= places.shape[1] - 1).all()


def test_a_beam_stop_is_no_disk_and_hides_only_what_it_covers(patterns, places):
    mask = np.ones(SHAPE, bool)
    mask[36:44, :60] = False
    shadowed = np.where(mask, patterns, 0)
    peaks = TemplateMatching(radius=RADIUS, mask=mask, structure=0.05)(shadowed)
    for i, at in enumerate(places):
        found = np.isfinite(peaks.position[i, :, 0])
        away = peaks.position[i][found][:, None] - at[None]
        nearest = np.hypot(*np.moveaxis(away, -1, 0)).argmin(axis=1)
        away = away[np.arange(len(nearest)), nearest]
        sigma = np.sqrt(peaks.covariance[i][found][:, [0, 2]])
        assert (np.abs(away) < np.maximum(5 * sigma, 0.3)).all()
        clear = ~((at[:, 0] > 29) & (at[:, 0] < 51) & (at[:, 1] < 67))
        assert found.sum() >= clear.sum()


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", ">u2", "u4", "i2", ">i4", "f4", ">f4", "f8", "i8"]
)
def test_every_dtype_gives_the_same(dtype, patterns):
    low = np.minimum(patterns // 4, 250)
    detector = TemplateMatching(radius=RADIUS)
    expected, found = detector(low), detector(low.astype(dtype))
    np.testing.assert_allclose(found.position, expected.position, atol=1e-4)
    np.testing.assert_array_equal(found.status, expected.status)


def test_batches_do_not_matter(patterns, monkeypatch):
    detector = TemplateMatching(radius=RADIUS)
    whole = detector(patterns)
    monkeypatch.setattr("fcunet_dask.model.template._BATCH_BYTES", 2 * 4 * 80 * 96)
    parts = detector(patterns)
    for name in ("position", "covariance", "intensity", "score", "status"):
        np.testing.assert_allclose(
            getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-5
        )


def test_no_patterns_at_all():
    peaks = TemplateMatching(radius=RADIUS, max_peaks=7)(np.zeros((0, *SHAPE)))
    assert peaks.position.shape == (0, 7, 2)


def test_patterns_are_left_alone(patterns):
    before = patterns.copy()
    TemplateMatching(radius=RADIUS)(patterns)
    np.testing.assert_array_equal(patterns, before)
    frozen = patterns.astype(np.float32)
    frozen.setflags(write=False)
    TemplateMatching(radius=RADIUS)(frozen)


def test_it_travels_small_and_works_where_it_arrives(patterns):
    detector = TemplateMatching(radius=RADIUS)
    detector(patterns)
    raw = pickle.dumps(detector)
    assert len(raw) < 2000
    copy = pickle.loads(raw)
    assert copy.token == detector.token
    np.testing.assert_array_equal(copy(patterns).position, detector(patterns).position)
    assert isinstance(detector, DiskDetector)


def test_the_token_is_that_of_the_parameters():
    a = TemplateMatching(radius=4.0)
    assert a.token == TemplateMatching(radius=4.0).token
    mask = np.ones((6, 8), bool)
    others = [
        TemplateMatching(radius=4.1),
        TemplateMatching(radius=4.0, subpixel="dft"),
        TemplateMatching(radius=4.0, mask=mask),
        TemplateMatching(radius=4.0, mask=mask.reshape(8, 6)),
    ]
    assert len({a.token, *(o.token for o in others)}) == 5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"radius": 0}, "radius"),
        ({"radius": np.nan}, "radius"),
        ({"radius": 4.0, "gain": -1}, "gain"),
        ({"radius": 4.0, "max_peaks": 0}, "max_peaks"),
        ({"radius": 4.0, "structure": -0.1}, "structure"),
        ({"radius": 4.0, "min_relative": -1}, "min_relative"),
        ({"radius": 4.0, "method": "magic"}, "method"),
        ({"radius": 4.0, "subpixel": "multicorr"}, "subpixel"),
        ({"radius": 4.0, "kernel": "sigmoid"}, "kernel"),
    ],
)
def test_senseless_parameters_are_refused_by_name(options, word):
    with pytest.raises(ParameterError, match=word):
        TemplateMatching(**options)


def test_a_disk_larger_than_the_pattern_is_refused(patterns):
    with pytest.raises(ParameterError, match="does not fit"):
        TemplateMatching(radius=45.0)(patterns)


def test_a_mask_of_another_shape_is_refused(patterns):
    with pytest.raises(ParameterError, match="mask has shape"):
        TemplateMatching(radius=4.0, mask=np.ones((5, 5), bool))(patterns)


def bullseye(shape, centre, radius):
    y, x = np.indices(shape)
    r = np.hypot(y - centre[0], x - centre[1]) / radius
    rings = 0.5 + 0.5 * np.cos(2 * np.pi * 1.5 * r)
    return rings * disk_image(shape, centre, radius, 0.7)


@pytest.mark.parametrize("subpixel", ["fit", "dft"])
@pytest.mark.parametrize("method", ["normalized", "cross"])
def test_a_patterned_probe_off_centre_finds_its_own(method, subpixel):
    rng = np.random.default_rng(5)
    radius, shape = 10.5, (120, 144)  # binned by 2 for the search
    centre = (50.3, 80.6)
    image = bullseye(shape, centre, radius)
    middle = np.array([60.2, 71.7])
    places = middle + 33 * np.array(
        [[0, 0], [1, 0.1], [-1, -0.1], [0.1, -1], [-0.1, 1]]
    )
    mean = sum(bullseye(shape, tuple(c), radius) for c in places)
    counts = rng.poisson(2e5 * mean / mean.sum())[None]
    detector = TemplateMatching(
        radius=radius,
        edge=0.7,
        image=image,
        center=centre,
        method=method,
        subpixel=subpixel,
        structure=0.05,
        min_relative=0.4,
    )
    away, found = errors_of(detector(counts), places[None])
    assert found == 5
    assert np.abs(away).max() < (0.08 if subpixel == "fit" else 0.25)


def test_half_precision_is_not_summed_beyond_its_range():
    """Warnings are errors."""
    patterns = np.full((2, 96, 96), 60.0, np.float16)
    patterns[1, 3, 4] = np.nan
    cleaned, status = clean(patterns)
    assert status.tolist() == [0, PatternStatus.NOT_FINITE]
    assert cleaned[1, 3, 4] == 0


@pytest.mark.parametrize("spacing", [14.0, 16.0, 18.0])
@pytest.mark.parametrize("electrons", [300.0, 600.0, 2400.0])
def test_crowded_disks_are_all_found_and_more_electrons_lose_none(spacing, electrons):
    """Spacings of whole numbers of search pixels, where halos of disks are everywhere."""
    sites = np.arange(10.3, 118.0, spacing)
    shape, area = (128, 128), np.pi * 4.0**2
    disks = sum(disk_image(shape, (y, x), 4.0, 0.6) for y in sites for x in sites)
    expected = electrons / area * disks + 0.02
    counts = np.random.default_rng(2).poisson(expected, (4, *shape))
    peaks = TemplateMatching(radius=4.0, edge=0.6)(counts)
    np.testing.assert_array_equal(
        np.isfinite(peaks.intensity).sum(axis=1), len(sites) ** 2
    )
