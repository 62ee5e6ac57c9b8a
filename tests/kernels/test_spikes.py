"""Spikes are cut; what a lens can have drawn is left as it is."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.spikes import cap_spikes


def by_hand(image, gain):
    """Pixel by pixel, with the neighbours that there are."""
    out = np.empty(image.shape)
    for y, x in np.ndindex(image.shape):
        around = [
            image[y + i, x + j]
            for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))
            if 0 <= y + i < image.shape[0] and 0 <= x + j < image.shape[1]
        ]
        out[y, x] = min(image[y, x], 4 * max(0, *around) + 10 * gain)
    return out


@pytest.mark.parametrize("gain", [1.0, 30.0])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", ">f8"])
def test_agrees_with_a_loop(gain, dtype):
    rng = np.random.default_rng(1)
    patterns = (gain * rng.poisson(2.0, (3, 7, 9))).astype(dtype)
    patterns[rng.random(patterns.shape) < 0.1] = 20_000
    before = patterns.copy()
    found = cap_spikes(patterns, CameraNoise(gain))
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, [by_hand(p, gain) for p in patterns.astype(float)]
    )
    np.testing.assert_array_equal(patterns, before)


@pytest.mark.parametrize("at", [(0, 0), (0, 5), (9, 11), (4, 4)])
def test_a_billion_in_one_pixel_is_gone_wherever_it_is(at):
    patterns = np.full((2, 10, 12), 3.0)
    patterns[(1, *at)] = 1e9
    found = cap_spikes(patterns)
    assert found[1].max() == 22
    np.testing.assert_array_equal(found[0], patterns[0])


@pytest.mark.parametrize("dose", [300.0, 3e6])
def test_nothing_of_a_disk_is_lost(dose):
    image = disk_image((40, 40), (19.3, 20.4), 2.5, 0.5)
    counts = np.random.default_rng(2).poisson(dose * image / image.sum(), (20, 40, 40))
    np.testing.assert_array_equal(cap_spikes(counts), counts)


def test_readout_noise_is_no_spike_and_a_dark_level_is_taken_off():
    noise = np.random.default_rng(4).normal(0, 24.0, (4, 64, 64))
    camera = CameraNoise(2.0, 24.0, 300.0)
    found = cap_spikes(noise + 300, camera)
    np.testing.assert_allclose(found, noise, atol=1e-3)
    noise[0, 5, 5] = 1e6
    assert cap_spikes(noise + 300, camera)[0, 5, 5] < 1000
