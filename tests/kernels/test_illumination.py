import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.illumination import Probe, aberration, aperture, probe_wave

BOX, WAVELENGTH = 51.2, 0.0250793
Q = (np.arange(128) - 64) / BOX


def wave(**kwargs):
    return probe_wave(Probe(semiangle=4.0, **kwargs), Q, BOX, WAVELENGTH)


def test_probe_is_normalized_and_as_large_as_its_angle():
    intensity = np.abs(wave()) ** 2
    assert intensity.sum() == pytest.approx(1, abs=1e-5)
    radius = 4e-3 / WAVELENGTH * BOX
    area = intensity.sum() / intensity.max()
    assert np.sqrt(area / np.pi) == pytest.approx(radius, rel=0.01)


def center_of(spectrum):
    field = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum))) ** 2
    return [i * BOX / 128 for i in np.unravel_index(field.argmax(), field.shape)]


def test_probe_stands_where_it_is_put():
    assert center_of(wave()) == pytest.approx([BOX / 2] * 2, abs=0.21)
    moved = center_of(wave(shift=(4.0, -8.0)))
    assert moved == pytest.approx([BOX / 2 + 4.0, BOX / 2 - 8.0], abs=0.21)


def test_aberrations_change_the_probe_but_not_its_spectrum():
    plain, blurred = wave(), wave(defocus=2000.0, spherical=1.0, astigmatism=500.0)
    np.testing.assert_allclose(np.abs(plain), np.abs(blurred), atol=1e-7)
    peak = [np.abs(np.fft.ifft2(w)).max() for w in (plain, blurred)]
    assert peak[1] < 0.7 * peak[0]


def test_aberration_phase_has_the_textbook_terms():
    probe = Probe(semiangle=4.0, defocus=100.0, spherical=1.2, astigmatism=50.0)
    q = np.array(0.3)
    focus = -np.pi * WAVELENGTH * q**2
    sphere = 0.5 * np.pi * WAVELENGTH**3 * 1.2e7 * q**4
    along = aberration(probe, np.array(0.0), q, WAVELENGTH)
    across = aberration(probe, q, np.array(0.0), WAVELENGTH)
    assert along == pytest.approx(focus * 150 + sphere)
    assert across == pytest.approx(focus * 50 + sphere)


def test_patterned_aperture_blocks_rings_and_spokes():
    axis = np.arange(-30.0, 31.0)
    probe = Probe(semiangle=4.0, rings=2, spokes=3)
    image = aperture(probe, 24.0, axis[:, None], axis[None])
    plain = aperture(Probe(semiangle=4.0), 24.0, axis[:, None], axis[None])
    assert image[30 + 8, 30] == 0
    assert image[30, 30 + 12] == 0
    assert image[30 + 12, 30] == 1
    assert 0.4 < image.sum() / plain.sum() < 0.8


@pytest.mark.parametrize("bad", [{"semiangle": 0.0}, {"semiangle": 2.0, "rings": -1}])
def test_an_impossible_probe_is_refused(bad):
    with pytest.raises(ParameterError):
        Probe(**bad)


def test_a_probe_that_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match="radius"):
        probe_wave(Probe(semiangle=40.0), Q, BOX, WAVELENGTH)
    with pytest.raises(ParameterError, match="radius"):
        probe_wave(Probe(semiangle=0.2), Q, BOX, WAVELENGTH)
