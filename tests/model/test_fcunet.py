"""The network as a detector, with a network whose answers are known."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from fcunet_dask import find_bragg_vectors, load_detector, run
from fcunet_dask.errors import ModelError, ParameterError
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.model import DiskDetector, FCUNet, PatternStatus
from fcunet_dask.model.fcunet import weighed_evidence
from fcunet_dask.model.probability import disk_probability
from fcunet_dask.model.weights import ModelCard, find_weights, write_card

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SHAPE, RADIUS = (72, 88), 4.2


def lattice(shape, g, middle=None):
    """Places of disks that are whole in the frame."""
    hk = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 2), -1).reshape(-1, 2)
    places = (np.array(shape) / 2 + 0.3 if middle is None else middle) + hk @ np.array(
        g
    )
    last = np.array(shape) - 1
    return places[(np.minimum(places, last - places) > 9).all(axis=1)]


def plain_disk(shape, center, radius=RADIUS):
    return disk_image(shape, center, radius, 0.5)


def counts(places, shape=SHAPE, draw=plain_disk, level=150.0, n=3):
    mean = 1 + level * sum(draw(shape, tuple(p)) for p in places)
    return np.random.default_rng(14).poisson(mean, (n, *shape)).astype(np.uint16)


@pytest.fixture(scope="module")
def places():
    return lattice(SHAPE, [[4.4, 14.3], [14.3, -4.4]])


@pytest.fixture(scope="module")
def patterns(places):
    return counts(places)


@pytest.fixture(scope="module")
def detector(weights):
    return FCUNet(radius=RADIUS, weights=weights, structure=0.05)


def assert_found(peaks, places, within):
    """Every disk once, nothing else."""
    for row in peaks.position:
        here = row[np.isfinite(row[:, 0])]
        away = np.linalg.norm(here[:, None] - places, axis=-1)
        assert len(here) == len(places)
        assert sorted(away.argmin(axis=1)) == list(range(len(places)))
        assert away.min(axis=1).max() < within


@pytest.mark.parametrize(
    ("refine", "within"), [("fit", 0.15), ("mean", 0.6), ("none", 1.0)]
)
def test_disks_are_found_where_they_are(refine, within, weights, patterns, places):
    detector = FCUNet(radius=RADIUS, weights=weights, structure=0.05, refine=refine)
    assert isinstance(detector, DiskDetector)
    peaks = detector(patterns)
    assert_found(peaks, places, within)
    assert not peaks.status.any()
    known = np.isfinite(peaks.position[..., 0])
    for values in (peaks.intensity, peaks.score, peaks.probability):
        assert np.isfinite(values[known]).all()
        assert (np.diff(peaks.intensity[0][known[0]]) <= 0).all()
    assert (peaks.score[known] > 0.8).all()
    # both images are the likeness here: s = l / l^¾, and |V_g| goes with s²
    np.testing.assert_allclose(
        peaks.structure_factor[known], np.sqrt(peaks.score[known]), rtol=1e-5
    )
    assert (peaks.covariance[known][:, [0, 2]] > 0).all()
    total = 150 * np.pi * RADIUS**2
    np.testing.assert_allclose(peaks.intensity[known], total, rtol=0.1)
    if refine != "fit":
        np.testing.assert_allclose(peaks.covariance[known][:, 0], 0.3**2, rtol=1e-4)


@pytest.mark.parametrize(
    ("refine", "scale", "within"),
    [("fit", "coarse", 0.2), ("none", "coarse", 2.2), ("none", "fine", 1.5)],
)
def test_large_disks_are_binned_and_their_places_are_not(
    refine, scale, within, weights
):
    """Factor 3 or 2, and neither side a multiple of anything."""
    shape, radius = (166, 203), 11.0

    def draw(shape, center):
        return disk_image(shape, center, radius, 0.5)

    places = lattice(shape, [[11.0, 37.0], [38.0, -9.0]])
    places = places[(np.minimum(places, np.array(shape) - 1 - places) > 16).all(axis=1)]
    detector = FCUNet(
        radius=radius, weights=weights, structure=0.05, refine=refine, scale=scale
    )
    peaks = detector(counts(places, shape, draw, n=1))
    assert_found(peaks, places, within)
    here = peaks.position[0][np.isfinite(peaks.position[0, :, 0])]
    nearest = np.linalg.norm(here[:, None] - places, axis=-1).argmin(axis=1)
    assert np.abs((here - places[nearest]).mean(axis=0)).max() < 0.6  # no half pixel


def test_more_disks_than_max_peaks_are_reported(weights, patterns, places):
    few = FCUNet(radius=RADIUS, weights=weights, structure=0.05, max_peaks=7)(patterns)
    assert (np.isfinite(few.intensity).sum(axis=1) == 7).all()
    assert (few.status == PatternStatus.CAPPED).all()
    room = FCUNet(
        radius=RADIUS, weights=weights, structure=0.05, max_peaks=len(places)
    )(patterns)
    assert not room.status.any()


def test_edge_boundary_is_the_width_of_the_empty_border(weights, patterns):
    wide = FCUNet(radius=RADIUS, weights=weights, structure=0.05, edge_boundary=20.0)
    found = wide(patterns).position
    found = found[np.isfinite(found[..., 0])]
    assert len(found) > 0
    assert np.minimum(found, np.array(SHAPE) - 1 - found).min() > 19.5


def test_windows_find_every_disk_once(weights, patterns, places, tmp_path):
    """A network of one size of image looks through windows that overlap."""
    name = copy_of(weights, tmp_path, tile=48)
    detector = FCUNet(radius=RADIUS, weights=name, structure=0.05)
    assert_found(detector(patterns), places, 0.2)
    with pytest.raises(ParameterError, match="48 px only"):
        detector.structure_factors(patterns)


def notched(shape, center):
    """A probe without any symmetry."""
    y, x = center
    hole = disk_image(shape, (y + 1.8, x - 0.9), 1.3, 0.5)
    return disk_image(shape, center, RADIUS, 0.5) - 0.8 * hole


def test_a_structured_probe_may_lie_anywhere_in_its_image(weights, places):
    center = (23.3, 60.6)
    detector = FCUNet(
        radius=RADIUS,
        weights=weights,
        structure=0.05,
        image=notched(SHAPE, center),
        center=center,
    )
    peaks = detector(counts(places, draw=notched))
    assert_found(peaks, places, 0.2)


def test_nothing_in_a_pattern_is_reported(detector, patterns, places):
    broken = patterns.copy()
    broken[1] = 0
    peaks = detector(broken)
    assert peaks.status.tolist() == [0, PatternStatus.EMPTY | PatternStatus.NO_DISKS, 0]
    assert np.isnan(peaks.position[1]).all()
    one = detector(patterns)
    np.testing.assert_allclose(peaks.position[[0, 2]], one.position[[0, 2]], atol=1e-4)


def test_pixels_without_a_number_cost_no_disk(detector, patterns, places):
    broken = patterns.astype(np.float32)
    broken[0, 8, 9] = np.nan
    broken[2, 30:32, 40] = np.inf
    peaks = detector(broken)
    assert (peaks.status & PatternStatus.NOT_FINITE).astype(bool).tolist() == [1, 0, 1]
    assert_found(peaks, places, 0.3)


def test_a_pattern_of_nothing_but_nan_is_empty(detector):
    peaks = detector(np.full((1, *SHAPE), np.nan, np.float32))
    expected = PatternStatus.NOT_FINITE | PatternStatus.EMPTY | PatternStatus.NO_DISKS
    assert peaks.status.tolist() == [expected]


@pytest.mark.parametrize("value", [65535, 1e9])
def test_a_hot_pixel_costs_no_disk(value, detector, patterns, places):
    hot = patterns.astype(np.float32)
    hot[:, 4, 5] = value
    hot[1, 40, 33] = value
    peaks = detector(hot)
    for i, row in enumerate(peaks.position):
        here = row[np.isfinite(row[:, 0])]
        away = np.linalg.norm(here[:, None] - places, axis=-1)
        assert len(set(away.argmin(axis=1))) == len(here) >= len(places) - (i == 1)
        assert away.min(axis=1).max() < 0.5


def test_readout_noise_and_a_dark_level_cost_no_disk(weights, patterns, places):
    """Half of the empty pixels are negative without their dark level."""
    noise = np.random.default_rng(3).normal(0, 4.0, patterns.shape)
    counts = 2 * (patterns + noise) + 500
    camera = {"gain": 2.0, "readout": 8.0, "dark": 500.0}
    noisy = FCUNet(radius=RADIUS, weights=weights, structure=0.05, **camera)
    assert_found(noisy(counts), places, within=0.2)
    assert np.isfinite(noisy.structure_factors(counts)).all()


def test_saturated_patterns_are_survived(detector, patterns, places):
    clipped = np.minimum(patterns, 90)
    assert_found(detector(clipped), places, 0.3)
    flat = np.full((1, *SHAPE), 65535, np.uint16)
    assert np.isfinite(detector(flat).position).sum() == 0


def test_a_beam_stop_is_no_disk(weights, patterns, places):
    mask = np.ones(SHAPE, bool)
    mask[30:42, :50] = False
    detector = FCUNet(radius=RADIUS, weights=weights, structure=0.05, mask=mask)
    peaks = detector(np.where(mask, patterns, 0))
    other = detector(np.where(mask, patterns, 60_000))
    np.testing.assert_allclose(other.position, peaks.position, atol=1e-3)
    rows, columns = places.T
    clear = places[(rows < 24) | (rows > 47) | (columns > 56)]
    for row in peaks.position:
        here = row[np.isfinite(row[:, 0])]
        away = np.linalg.norm(here[:, None] - places, axis=-1)
        assert away.min(axis=1).max() < RADIUS
        apart = np.linalg.norm(clear[:, None] - here, axis=-1)
        assert apart.min(axis=1).max() < 0.2


def test_what_cannot_be_is_refused_before_anything_is_computed(weights, patterns):
    with pytest.raises(ParameterError, match=r"radius 40.* 72 × 88"):
        FCUNet(radius=40.0, weights=weights)(patterns)
    with pytest.raises(ParameterError, match=r"mask has shape \(9, 9\).*\(72, 88\)"):
        FCUNet(radius=RADIUS, weights=weights, mask=np.ones((9, 9), bool))(patterns)
    for options in (
        {"radius": 0.0},
        {"radius": 4.0, "refine": "often"},
        {"radius": 4.0, "scale": "large"},
        {"radius": 4.0, "min_probability": 1.0},
        {"radius": 4.0, "max_peaks": 0},
        {"radius": 4.0, "max_peaks": 2.5},
        {"radius": 4.0, "gain": -1.0},
        {"radius": 4.0, "min_probability": "a"},
        {"radius": 4.0, "min_spacing": -1.0},
        {"radius": 4.0, "edge_boundary": float("nan")},
        {"radius": 4.0, "structure": "a"},
        {"radius": "a"},
        {"radius": 4.0, "center": (9.0, 9.0), "image": np.zeros((19, 19))},
    ):
        with pytest.raises(ParameterError, match=list(options)[-1]):
            FCUNet(weights=weights, **options)
    with pytest.raises(ModelError, match="no weights"):
        FCUNet(radius=4.0, weights="none.keras")


def test_patterns_of_another_size_than_the_probes_are_refused(weights, patterns):
    detector = FCUNet(radius=RADIUS, weights=weights, shape=(72, 90))
    with pytest.raises(ParameterError, match=r"probe has 72 × 90 px.* 72 × 88"):
        detector(patterns)
    with pytest.raises(ParameterError, match=r"probe has 72 × 90 px.* 72 × 88"):
        detector.structure_factors(patterns)
    fitting = FCUNet(radius=RADIUS, weights=weights, shape=SHAPE)
    plain = FCUNet(radius=RADIUS, weights=weights)
    np.testing.assert_array_equal(fitting(patterns).position, plain(patterns).position)


def test_patterns_without_counts_have_no_structure_factors(detector, patterns):
    three = np.stack([patterns[0] * 0.0, patterns[0] * np.nan, patterns[0]])
    images = detector.structure_factors(three.astype(np.float32))
    assert np.isnan(images[:2]).all()
    assert np.isfinite(images[2]).all()


def test_no_patterns_at_all(detector):
    peaks = detector(np.zeros((0, *SHAPE), np.uint16))
    assert peaks.position.shape == (0, 128, 2)


def test_patterns_are_left_alone(detector, patterns):
    frozen = patterns.astype(np.float32)
    frozen.setflags(write=False)
    before = frozen.copy()
    detector(frozen)
    np.testing.assert_array_equal(frozen, before)


def test_it_travels_small_and_works_where_it_arrives(detector, patterns):
    packed = pickle.dumps(detector)
    assert len(packed) < 4000
    there = pickle.loads(packed)
    assert there.token == detector.token
    np.testing.assert_array_equal(there(patterns).position, detector(patterns).position)


def copy_of(weights, folder, **values):
    """The same network, with another card."""
    path = folder / "copy.keras"
    path.write_bytes(Path(weights).read_bytes())
    _, card = find_weights(weights)
    fields = {n: getattr(card, n) for n in card.__dataclass_fields__}
    write_card(path, ModelCard(**(fields | values)))
    return str(path)


def test_equal_detectors_have_equal_tokens(detector, weights, tmp_path):
    same = FCUNet(radius=RADIUS, weights=weights, structure=0.05)
    assert same.token == detector.token == same.__dask_tokenize__()
    elsewhere = copy_of(weights, tmp_path)
    moved = FCUNet(radius=RADIUS, weights=elsewhere, structure=0.05)
    assert moved.token == detector.token
    for options in (
        {"radius": 4.3},
        {"mask": np.ones(SHAPE, bool)},
        {"refine": "none"},
        {"scale": "fine"},
        {"mirrored": True},
        {"max_peaks": 64},
    ):
        other = FCUNet(
            **{"radius": RADIUS, "structure": 0.05, **options}, weights=weights
        )
        assert other.token != detector.token


@pytest.mark.parametrize(
    "values", [{"probability": (-9.0, 12.0, 0.0, 0.0, 0.0, 0.0)}, {"spread": 3.0}]
)
def test_another_calibration_is_another_detector(values, weights, patterns, tmp_path):
    """A card that was measured anew changes the answers, so also the token."""
    options = {"radius": RADIUS, "structure": 0.05, "refine": "none"}
    before = FCUNet(weights=weights, **options)
    plain = before(patterns)
    changed = FCUNet(weights=copy_of(weights, tmp_path, **values), **options)
    assert changed.token != before.token
    found = changed(patterns)
    if "spread" in values:
        np.testing.assert_allclose(found.covariance, 9 * plain.covariance, rtol=1e-4)
    if "probability" in values:
        assert np.nanmax(found.probability) < np.nanmax(plain.probability)


def test_what_is_weighed_is_what_a_detection_says(detector, patterns, places):
    """Evidence of all candidates, weighed as the card tells, is the probability."""
    found, seen = weighed_evidence(detector, patterns)
    weighed = disk_probability(seen, detector.card.probability)
    peaks = FCUNet(
        radius=RADIUS, weights=detector.weights, structure=0.05, refine="none"
    )(patterns)
    for i, told in enumerate(peaks.probability):
        here = np.sort(weighed[(found.image == i) & (weighed >= 0.5)])
        np.testing.assert_allclose(np.sort(told[np.isfinite(told)]), here)
    at = np.linalg.norm(found.position[:, None] - places, axis=-1).min(axis=1) < 1.5
    assert at.sum() == len(places) * len(patterns)
    assert seen[at, 5].min() > 0.99  # whether the contrast is clear
    assert np.mean(seen[~at, 5] > 0.5) < 0.1
    np.testing.assert_allclose(seen[:, 4], np.log(RADIUS))


def test_weights_that_were_replaced_meanwhile_are_not_used(
    weights, patterns, tmp_path, monkeypatch
):
    """A worker may have another file under the same name than the one who asked."""
    monkeypatch.setattr("fcunet_dask.model.loaded._NETWORKS", {})
    name = copy_of(weights, tmp_path)
    detector = FCUNet(radius=3.9, weights=name)
    content = Path(name).read_bytes() + b"\0"
    Path(name).write_bytes(content)
    _, card = find_weights(name)
    fields = {n: getattr(card, n) for n in card.__dataclass_fields__}
    digest = sha256(content).hexdigest()
    write_card(Path(name), ModelCard(**(fields | {"sha256": digest})))
    with pytest.raises(ModelError, match="is not the file"):
        detector(patterns)


def test_two_threads_at_once_get_the_same(weights, patterns):
    detector = FCUNet(radius=RADIUS, weights=weights, structure=0.05, edge=0.51)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(detector, [patterns, patterns[::-1], patterns]))
    np.testing.assert_array_equal(found[0].position, found[2].position)
    np.testing.assert_array_equal(found[0].position, found[1].position[::-1])


def test_structure_factor_images_have_spots_at_the_disks(detector, patterns, places):
    images = detector.structure_factors(patterns)
    assert images.shape == patterns.shape
    for y, x in np.rint(places).astype(int):
        assert (images[:, y, x] > 0.6).all()
    assert images.min() >= 0
    assert images.max() <= 1.01


def test_it_finds_what_template_matching_finds(weights, scan, probe):
    network = load_detector(weights, probe, max_peaks=48)
    part = scan.isel(scan_y=slice(0, 2), scan_x=slice(0, 4))
    found = find_bragg_vectors(part, network).compute()
    template = load_detector("template", probe, max_peaks=48)
    expected = find_bragg_vectors(part, template).compute()
    step = float(abs(scan["q_x"][1] - scan["q_x"][0]))
    for y, x in np.ndindex(2, 4):
        a, b = (np.asarray(one["bragg_q"])[y, x] / step for one in (found, expected))
        a, b = a[np.isfinite(a[:, 0])], b[np.isfinite(b[:, 0])]
        away = np.linalg.norm(a[:, None] - b, axis=-1)
        assert len(a) >= 0.9 * len(b)
        assert np.quantile(away.min(axis=1), 0.9) < 0.2


def test_a_run_with_it_is_a_strain_map(weights, scan, probe, tmp_path):
    network = load_detector(weights, probe, max_peaks=48)
    results = run(scan, tmp_path / "out", detector=network)
    strain, true = (
        np.asarray(r) for r in (results["strain_xx"], scan["true_strain_xx"])
    )
    found, expected = (
        np.nanmedian(a[:, -2:]) - np.nanmedian(a[:, :2]) for a in (strain, true)
    )
    assert abs(expected) > 0.005
    assert found == pytest.approx(expected, abs=0.001)


def test_disks_that_overlap_stay_two_though_their_outlines_near_each_other(
    weights, monkeypatch
):
    """Light of both where they overlap draws the outlines together."""
    places = np.array([[36.0, 40.0], [36.0, 40.0 + 1.15 * RADIUS]])
    between = places.mean(axis=0)[1]
    columns = np.arange(SHAPE[1])
    towards = np.exp(-((columns - between) ** 2) / (2 * (0.4 * RADIUS) ** 2))
    mean = 1 + 40 * sum(plain_disk(SHAPE, tuple(p)) for p in places) * (1 + 4 * towards)
    pattern = np.random.default_rng(3).poisson(mean, (1, *SHAPE)).astype(np.uint16)
    marks = np.zeros((1, 2, 6), np.float32)
    marks[0, :, 0] = marks[0, :, 5] = 0.9
    marks[0, :, 1:3], marks[0, :, 4] = places, -1.0
    monkeypatch.setattr(
        "fcunet_dask.model.fcunet.peaks_of", lambda *_, **__: lambda *images: marks
    )
    known = {"radius": RADIUS, "weights": weights, "min_probability": 0.0}
    both = FCUNet(**known, structure=0.05)(pattern).position[0]
    both = both[np.isfinite(both[:, 0])]
    assert len(both) == 2
    assert np.hypot(*np.diff(both, axis=0)[0]) < RADIUS
    apart = FCUNet(**known, structure=0.05, min_spacing=RADIUS)(pattern).position[0]
    assert np.isfinite(apart[:, 0]).sum() == 1
