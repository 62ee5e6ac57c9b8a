"""Detectors by name."""

import numpy as np
import pytest
from fcunet_dask import load_detector
from fcunet_dask.errors import ModelError, ParameterError
from fcunet_dask.model import DiskDetector, Peaks, TemplateMatching


def test_a_probe_sets_all_that_follows_from_it(probe):
    detector = load_detector("template", probe, max_peaks=9)
    assert isinstance(detector, TemplateMatching)
    assert detector.radius == probe.attrs["radius"]
    assert detector.gain == probe.attrs["gain"]
    assert (detector.readout, detector.dark) == (0, 0)
    assert detector.max_peaks == 9
    assert detector.image is None
    assert detector.shape == probe["probe"].shape


@pytest.mark.parametrize("name", ["template", "fcunet"])
def test_the_noise_of_the_camera_is_known_to_all(name, probe):
    noisy = probe.assign_attrs(readout=3.5, dark=120.0)
    detector = load_detector(name, noisy)
    assert (detector.readout, detector.dark) == (3.5, 120.0)


@pytest.mark.parametrize("name", ["template", "fcunet"])
@pytest.mark.parametrize("option", ["gain", "readout", "dark"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "2", None])
def test_noise_of_the_camera_that_is_no_number_is_refused(name, option, value, probe):
    with pytest.raises(ParameterError, match=f"{option} must be a finite number"):
        load_detector(name, probe, **{option: value})


@pytest.mark.parametrize("name", ["template", "fcunet"])
def test_noise_of_the_camera_has_a_sign(name, probe):
    with pytest.raises(ParameterError, match="readout must not be negative"):
        load_detector(name, probe, readout=-1.0)
    with pytest.raises(ParameterError, match="gain must be positive"):
        load_detector(name, probe, gain=0.0)
    assert load_detector(name, probe, dark=np.float32(-1)).dark == -1


def test_options_win_over_the_probe(probe):
    assert load_detector("template", probe, radius=3.0).radius == 3.0


def test_masks_and_patterned_probes_travel_along(probe):
    changed = probe.assign(mask=probe["mask"].copy())
    changed["mask"][3, 4] = False
    changed.attrs["patterned"] = 1
    detector = load_detector("template", changed)
    assert not detector.mask[3, 4]
    assert detector.image.shape == probe["probe"].shape
    assert detector.center == tuple(probe.attrs["center"])


@pytest.mark.parametrize(
    ("name", "scale", "refine", "mirrored"),
    [
        ("fcunet", "coarse", "fit", False),
        ("fcunet_fine", "fine", "fit", False),
        ("fcunet_mean", "fine", "mean", True),
    ],
)
def test_one_network_has_several_names(name, scale, refine, mirrored, probe):
    detector = load_detector(name, probe)
    assert detector.weights == "fcunet"
    assert (detector.scale, detector.refine) == (scale, refine)
    assert detector.mirrored == mirrored
    assert load_detector(name, probe, refine="none").refine == "none"


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ModelError, match=r"'magic'.*template"):
        load_detector("magic")


def test_any_class_with_two_members_is_a_detector():
    class Echo:
        max_peaks = 2

        def __call__(self, patterns):
            return Peaks.empty(len(patterns), 2)

    assert isinstance(Echo(), DiskDetector)
    assert np.isnan(Echo()(np.zeros((3, 4, 4))).position).all()
