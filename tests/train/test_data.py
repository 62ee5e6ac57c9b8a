"""The truth of a training example lies on its disks, however it was cut and turned."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from fcunet_dask.errors import StoreError
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.simulate.artefacts import Artefacts, Camera, Clean
from fcunet_dask.simulate.library import make_library
from fcunet_dask.simulate.visibility import Visibility
from fcunet_dask.train import data
from fcunet_dask.train.batches import batches
from fcunet_dask.train.data import (
    DataRecipe,
    Source,
    _library,
    find_source,
    make_batch,
    observed_example,
)
from fcunet_dask.train.example import cropped, turned
from fcunet_dask.train.recipe import TrainRecipe

RADIUS, Q_STEP = 6.3, 0.02
OFFSETS = [
    (0, 0),
    (-27.3, 3.2),
    (4.6, -25.9),
    (24.2, 8.7),
    (-6.1, 27.4),
    (-24.5, -21.8),
]
BRIGHT = Artefacts(dose=1e9, probe_dose=1e9, camera=Camera(bits=32))


def aperture(shape, center):
    """A disk with a hole beside its middle: no symmetry turns it into itself."""
    y, x = center
    hole = disk_image(shape, (y + 0.35 * RADIUS, x - 0.2 * RADIUS), 0.3 * RADIUS, 0.5)
    return disk_image(shape, center, RADIUS, 0.5) - 0.8 * hole


def ring(shape, center):
    """An annular aperture."""
    whole, inner = (disk_image(shape, center, r, 0.5) for r in (RADIUS, 0.6 * RADIUS))
    return whole - 0.9 * inner


def clean(size, draw=disk_image, offsets=OFFSETS):
    """Isolated disks, the direct beam first, in the middle."""
    options = (RADIUS, 0.5) if draw is disk_image else ()
    middle = size // 2 + np.array(offsets)
    images = [draw((size, size), tuple(p), *options) for p in middle]
    pattern, probe = sum(images), images[0]
    return Clean(
        (pattern / pattern.sum()).astype(np.float32),
        (probe / probe.sum()).astype(np.float32),
        np.array(offsets) * Q_STEP,
        np.ones(len(offsets)),
        Q_STEP,
    )


def example(size, factor, **options):
    rng = np.random.default_rng(10)
    return observed_example(clean(size, **options), BRIGHT, rng, RADIUS, factor)


def centre_of_mass(image, around, radius):
    y, x = np.indices(image.shape)
    near = np.hypot(y - around[0], x - around[1]) < radius
    return np.array([(image * y * near).sum(), (image * x * near).sum()]) / (
        (image * near).sum()
    )


def assert_truth(one, least):
    """Each disk that is whole in the frame is where it is said to be; so is the probe."""
    reach = one.radius + 2
    size = np.array(one.pattern.shape)
    whole = ((one.position > reach) & (one.position < size - 1 - reach)).all(axis=1)
    assert whole.sum() >= least
    assert (one.label[whole] == Visibility.VISIBLE).all()
    for at in one.position[whole]:
        found = centre_of_mass(one.pattern, at, reach)
        np.testing.assert_allclose(found, at, atol=0.05)
    middle = centre_of_mass(one.probe, size // 2, reach)
    np.testing.assert_allclose(middle, size // 2, atol=0.05)


class Told:
    """A generator whose draws are known."""

    def __init__(self, values):
        self.values = list(values)

    def random(self):
        return self.values.pop(0)


TURNS = list(product((0.1, 0.9), repeat=3))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [96, 97, 101])
def test_binned(size, factor):
    one = example(size, factor)
    assert one.pattern.shape == (size // factor,) * 2
    assert one.radius == RADIUS / factor
    assert_truth(one, 4)


@pytest.mark.parametrize("draws", TURNS)
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_turned(factor, draws):
    one = example(100, factor)
    assert_truth(turned(one, Told(draws)), 6)


def test_the_turns_are_the_symmetries_of_a_square():
    one = example(96, 4)
    ways = [turned(one, Told(draws)) for draws in TURNS]
    assert len({t.pattern.tobytes() for t in ways}) == 8


@pytest.mark.parametrize("draws", TURNS)
@pytest.mark.parametrize("size", [64, 65])
def test_disks_turn_like_the_probe(size, draws):
    """A structured probe is found in the pattern as it stands in the probe's image."""
    offsets = [(0, 0), (-19, 4), (8, -19)]
    one = example(size, 1, draw=aperture, offsets=offsets)
    one = turned(one, Told(draws))
    half = 9
    middle = size // 2
    window = slice(middle - half, middle + half + 1)
    expected = one.probe[window, window] / one.probe.sum()
    for at in one.position:
        y, x = np.rint(at).astype(int)
        part = one.pattern[y - half : y + half + 1, x - half : x + half + 1]
        np.testing.assert_allclose(part / part.sum(), expected, atol=5e-5)


@pytest.mark.parametrize(
    ("factor", "size"), [(1, 64), (1, 128), (2, 32), (3, 33), (4, 32)]
)
def test_cropped_and_turned(factor, size):
    one = example(100, factor)
    one = replace(one, emptied=one.position)
    rng = np.random.default_rng(11)
    for _ in range(6):
        cut = turned(cropped(one, size, rng), rng)
        assert cut.pattern.shape == cut.probe.shape == cut.mask.shape == (size, size)
        assert_truth(cut, 0)
        np.testing.assert_array_equal(cut.emptied, cut.position)
        inside = ((cut.position > 0) & (cut.position < size - 1)).all(axis=1)
        assert inside.any()
        assert not cut.pattern[cut.mask == 0].any()


@pytest.fixture
def recipe():
    return DataRecipe(size=24, crops=2)


def same(one, two):
    for a, b in zip([*one[0], one[1]], [*two[0], two[1]], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_depends_on_seed_and_step_alone(tiny_library, recipe):
    path = str(tiny_library)
    first = make_batch(Source(path), recipe, 4, 1, 7)
    other_step = make_batch(Source(path), recipe, 4, 1, 8)
    other_seed = make_batch(Source(path), recipe, 4, 2, 7)
    _library.cache_clear()
    same(make_batch(Source(path), recipe, 4, 1, 7), first)
    for other in (other_step, other_seed):
        assert (other[0][0] != first[0][0]).any()


def test_a_batch_is_what_a_network_takes(tiny_library, recipe):
    (pattern, probe, mask), target = make_batch(
        Source(str(tiny_library)), recipe, 4, 1, 7
    )
    for part in (pattern, probe, mask):
        assert part.shape == (4, 24, 24, 1)
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
        assert part.min() >= 0
    assert target.shape == (4, 24, 24, 6)
    assert target.dtype == np.float32
    assert set(np.unique(mask)) <= {0, 1}
    assert not pattern[mask == 0].any()
    assert not target[..., 4][mask[..., 0] == 0].any()
    assert probe.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("processes", [0, 1])
def test_whoever_makes_the_batches_they_are_the_same(processes, tiny_library, recipe):
    path = str(tiny_library)
    training = TrainRecipe(data=recipe, batch=2, steps=9, seed=3)
    found = list(batches(Source(path), training, range(4, 7), processes))
    assert len(found) == 3
    for step, one in zip(range(4, 7), found, strict=True):
        same(one, make_batch(Source(path), recipe, 2, 3, step))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_made_probe_is_a_plain_disk_of_about_the_measured_radius(factor):
    counted = replace(BRIGHT, probe_dose=2e4)
    radii = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        one = observed_example(clean(96), counted, rng, RADIUS, factor, made=True)
        middle = np.array(one.probe.shape) // 2
        assert one.probe[tuple(middle)] == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(
            centre_of_mass(one.probe, middle, 3 * RADIUS), middle, atol=1e-3
        )
        radii.append(np.sqrt(one.probe.sum() / np.pi) * factor / RADIUS)
    assert np.mean(radii) == pytest.approx(1, abs=0.02)
    assert 0.006 < np.std(radii) < 0.015


def test_a_ring_is_never_made_a_disk():
    seen, made = (
        observed_example(
            clean(96, draw=ring),
            BRIGHT,
            np.random.default_rng(4),
            RADIUS,
            1,
            made=m,
        )
        for m in (False, True)
    )
    np.testing.assert_array_equal(made.probe, seen.probe)


def test_erased_disks_are_neither_in_the_pattern_nor_in_the_truth():
    whole, without = (
        observed_example(
            clean(96), BRIGHT, np.random.default_rng(4), RADIUS, 1, erased=n
        )
        for n in (0, 2)
    )
    gone = (whole.label == Visibility.VISIBLE) & (without.label == Visibility.ABSENT)
    assert gone.sum() == 2
    assert len(whole.emptied) == 0
    by_row = np.argsort(without.emptied[:, 0])
    wanted = whole.position[gone]
    np.testing.assert_allclose(
        without.emptied[by_row], wanted[np.argsort(wanted[:, 0])]
    )
    kept = ~gone
    np.testing.assert_array_equal(whole.label[kept], without.label[kept])
    y, x = np.indices(whole.pattern.shape)
    for place, missing in zip(whole.position, gone, strict=True):
        inside = np.hypot(y - place[0], x - place[1]) < RADIUS
        ratio = without.pattern[inside].sum() / whole.pattern[inside].sum()
        assert ratio < 0.02 if missing else abs(ratio - 1) < 0.02


@pytest.mark.parametrize(("fine", "radius"), [(0.0, RADIUS / 2), (1.0, RADIUS)])
def test_examples_have_the_scale_of_the_recipe(fine, radius, tiny_library, monkeypatch):
    """Disks of 6.3 px are binned on the coarse scale, and not on the fine one."""
    monkeypatch.setattr(data, "disk_radius", lambda *_: RADIUS)
    recipe = DataRecipe(fine=fine, jitter=0.0)
    drawn = data.draw_example(
        _library(Source(str(tiny_library))), recipe, np.random.default_rng(2)
    )
    assert drawn.radius == radius


def test_a_library_that_grows_gives_the_same_batches(tiny_recipe, recipe, tmp_path):
    """Half of it is there when a training begins; the rest comes while it is stopped."""
    path, slow = tmp_path / "grows.zarr", replace(tiny_recipe, block=1)

    def interrupt(done, _):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_library(slow, path, patterns=8, progress=interrupt)
    begun = find_source(str(path))
    assert begun.specimens == (0, 1)
    first = [make_batch(begun, recipe, 2, 1, step) for step in range(3)]
    make_library(slow, path, patterns=8)
    _library.cache_clear()
    assert find_source(str(path)) == Source(str(path))
    for step, batch in enumerate(first):
        same(make_batch(begun, recipe, 2, 1, step), batch)
    whole = [make_batch(Source(str(path)), recipe, 2, 1, step) for step in range(3)]
    assert any((a[0][0] != b[0][0]).any() for a, b in zip(first, whole, strict=True))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_network_is_trained_on_what_it_is_judged_on(split, tiny_recipe, tmp_path):
    path = make_library(
        replace(tiny_recipe, split=split), tmp_path / "held.zarr", patterns=4
    )
    with pytest.raises(StoreError, match=f"holds the {split} crystals"):
        find_source(str(path))
