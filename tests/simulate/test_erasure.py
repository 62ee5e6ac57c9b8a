"""Taking out a disk leaves what was under it, and nothing else changes."""

import numpy as np
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.simulate.artefacts import Artefacts, Camera, Clean, expect
from fcunet_dask.simulate.erasure import erase_disks, lonely_disks, without_disks
from fcunet_dask.simulate.visibility import Visibility

SHAPE, RADIUS, HEIGHT = (96, 80), 5.3, 25
RESIDUE = 0.005 * HEIGHT  # of the blurred edge
PLACES = np.array([(30.2, 24.7), (60.6, 51.1)])


def slope():
    y, x = np.indices(SHAPE)
    return 40 + 0.3 * y - 0.2 * x


def disks(places):
    return sum(HEIGHT * disk_image(SHAPE, tuple(p), RADIUS, 0.5) for p in places)


def test_the_background_is_left():
    image = slope() + disks(PLACES)
    np.testing.assert_allclose(
        erase_disks(image, PLACES, RADIUS), slope(), atol=RESIDUE
    )


def test_others_stay_and_the_image_is_not_touched():
    image = slope() + disks(PLACES)
    kept = image.copy()
    np.testing.assert_allclose(
        erase_disks(image, PLACES[:1], RADIUS),
        slope() + disks(PLACES[1:]),
        atol=RESIDUE,
    )
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_array_equal(erase_disks(image, PLACES[:0], RADIUS), image)


def test_near_the_border():
    place = np.array([(11.0, 68.5)])
    image = slope() + disks(place)
    np.testing.assert_allclose(erase_disks(image, place, RADIUS), slope(), atol=RESIDUE)


def test_only_visible_disks_that_touch_no_other_are_lonely():
    visible, faint, absent = Visibility.VISIBLE, Visibility.FAINT, Visibility.ABSENT
    rows = [
        ((30, 20), visible, True),
        ((60, 20), visible, False),  # beside the next
        ((60, 20 + 2.5 * RADIUS), faint, False),
        ((30, 50), faint, False),
        ((75, 60), visible, True),
        ((75 + RADIUS, 60), absent, False),  # does not disturb
        ((9, 60), visible, False),  # too near the border
        ((np.nan, np.nan), absent, False),
    ]
    places, labels, lonely = (np.array(column) for column in zip(*rows, strict=True))
    found = lonely_disks(places.astype(float), labels, RADIUS, SHAPE)
    assert found.tolist() == np.flatnonzero(lonely).tolist()
    assert lonely_disks(places[:1].astype(float), labels[:1], RADIUS, SHAPE).size == 0


def test_a_reflection_taken_out_leaves_no_halo():
    """Its inelastic halo and the tails of the camera go with it; all is linear."""
    middle, step = np.array(SHAPE) // 2, 0.02

    def clean(places):
        probe = disk_image(SHAPE, tuple(middle), RADIUS, 0.5)
        image = 1e-4 * disks(places) + probe / 200
        q = np.concatenate([[(0.0, 0.0)], (PLACES - middle) * step])
        parts = image.astype(np.float32), probe.astype(np.float32), q, np.ones(3), step
        return Clean(*parts)

    foggy = Artefacts(
        loss=0.4, loss_width=0.05, camera=Camera(sigma=0.8, tail=0.2, reach=6.0)
    )
    left, never, whole = (
        expect(c, foggy).pattern
        for c in (
            without_disks(clean(PLACES), np.array([1]), RADIUS),
            clean(PLACES[1:]),
            clean(PLACES),
        )
    )
    taken = np.abs(whole - never)
    assert np.abs(left - never).max() < 0.005 * taken.max()
    naive = erase_disks(whole, PLACES[:1], RADIUS)
    assert np.abs(naive - never).max() > 5 * np.abs(left - never).max()
