"""Cameras whose brightest pixels read the most they can."""

import numpy as np
import pytest
from fcunet_dask import estimate_probe, load_detector, run, simulate_scan
from fcunet_dask.cli.screen import console
from fcunet_dask.cli.strain import report

SCAN = {"scan": (4, 12), "radius": 4.2, "blocks": None}


@pytest.fixture(scope="module")
def whole():
    """Beams of about 880 electrons a pixel, disks around them of up to 200."""
    return simulate_scan(**SCAN, dose=1e5).drop_vars("probe")


def cut(scan, level, gain=1, dark=0):
    counts = np.minimum(gain * scan["pattern"].values.astype(np.uint32) + dark, level)
    return scan.assign(pattern=(scan["pattern"].dims, counts.astype(np.uint32)))


@pytest.mark.parametrize("level", [700, 255, 175, 63])
def test_the_radius_is_that_of_disks_that_are_not_cut_off(level, whole):
    probe = estimate_probe(cut(whole, level))
    assert probe.attrs["saturation"] == level
    assert probe.attrs["saturated_patterns"] == 1
    share = (whole["pattern"].values >= level).mean()
    assert probe.attrs["saturated_pixels"] == pytest.approx(share, rel=0.1)
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.03)
    assert probe.attrs["edge"] == pytest.approx(0.5, abs=0.05)
    assert probe.attrs["gain"] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("level", [4095, 1023])
def test_the_gain_where_every_electron_makes_many_counts(level):
    scan = simulate_scan(**SCAN, dose=2e4).drop_vars("probe")
    probe = estimate_probe(cut(scan, level, gain=30))
    assert probe.attrs["saturation"] == level
    assert probe.attrs["gain"] == pytest.approx(30, rel=0.1)


def test_a_dark_level_is_part_of_what_saturated_pixels_read(whole):
    noise = np.random.default_rng(0).normal(0, 40, whole["pattern"].shape)
    counts = np.minimum(20 * whole["pattern"].values + 1000 + noise, 4095)
    scan = whole.assign(pattern=(whole["pattern"].dims, np.rint(counts)))
    probe = estimate_probe(scan.astype(np.float32))
    assert probe.attrs["saturation"] == 4095
    assert probe.attrs["dark"] == pytest.approx(1000, abs=10)
    assert probe.attrs["gain"] == pytest.approx(20, rel=0.1)
    assert probe.attrs["radius"] == pytest.approx(4.2, abs=0.05)
    assert load_detector("template", probe).saturation == 4095


@pytest.mark.parametrize("dose", [5, 50, 500, 5e3, 5e4])
@pytest.mark.parametrize("central", [0.1, 0.9])
def test_counting_is_no_saturation(dose, central):
    """Of few electrons many pixels hold the highest count; magnified, side by side."""
    scan = simulate_scan(**SCAN, dose=dose, central=central, descan=(0, 0))
    for factor in (1, 2):
        counts = scan["pattern"].values.repeat(factor, 2).repeat(factor, 3)
        seen = scan.drop_vars(["q_y", "q_x"]).drop_dims(["q_y", "q_x"])
        seen["pattern"] = (("scan_y", "scan_x", "q_y", "q_x"), counts)
        probe = estimate_probe(seen, vacuum=counts.sum((0, 1)))
        assert probe.attrs["saturation"] == 0


def test_a_patch_that_reads_a_constant_is_no_saturation(whole):
    stuck = cut(whole, 1e9)
    stuck["pattern"][:, :, 8:11, 100:103] = 65535
    assert estimate_probe(stuck).attrs["saturation"] == 0


def test_strain_is_as_good_as_without(whole, tmp_path):
    errors = {}
    for level in (10**6, 175):
        results = run(
            cut(whole, level),
            tmp_path / str(level),
            reference=(slice(None), slice(0, 3)),
        )
        wrong = results["strain_xx"] - whole["true_strain_xx"]
        errors[level] = float(np.sqrt((wrong**2).mean()))
    assert errors[175] < 1.1 * errors[10**6]
    with console.capture() as captured:
        report(results)
    said = " ".join(captured.get().split())
    assert "at 175 counts: 100 % of the patterns looked at" in said
    with console.capture() as captured:
        results.attrs["provenance"]["probe"]["saturation"] = 0.0
        report(results)
    assert "saturated" not in captured.get()


def test_a_network_is_told_by_its_options_only(whole):
    """Fillings of any kind have no height that rims would tell."""
    probe = estimate_probe(cut(whole, 255))
    assert load_detector("template", probe).saturation == 255
    assert load_detector("fcunet", probe).saturation == 0
    assert load_detector("fcunet", probe, saturation=200).saturation == 200
