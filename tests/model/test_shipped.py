"""What ships finds disks that it has never seen, and places them."""

from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask import load_detector
from fcunet_dask.model.detector import PatternStatus
from fcunet_dask.simulate.library import make_library
from fcunet_dask.simulate.recipe import load_recipe
from fcunet_dask.train.judge.contender import Contender
from fcunet_dask.train.judge.detection import Threshold, tally, total
from fcunet_dask.train.judge.positions import position_errors
from fcunet_dask.train.judge.truth import open_scenes

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Twenty dynamical patterns of four test crystals, counted, with their truth."""
    path = tmp_path_factory.mktemp("shipped") / "test.zarr"
    make_library(replace(load_recipe("test"), seed=7), path, patterns=20)
    return [scene.judged() for scene in open_scenes(path)]


def found_by(judged, name, threshold, **options):
    contender = Contender(name, options, Threshold(*threshold))
    return [contender.find(j) for j in judged]


def test_it_beats_correlation_on_crystals_that_it_has_never_seen(judged):
    """In what is found and how far off it is; a shift of half a pixel would show."""
    own = found_by(judged, "fcunet", ("probability", 0.5))
    others = found_by(
        judged, "correlation", ("score", 0.5), subpixel="parabola", min_score=0.5
    )
    f1 = [
        total([tally(f, j) for f, j in zip(found, judged, strict=True)]).f1
        for found in (own, others)
    ]
    assert f1[0] > 0.7
    assert f1[0] > f1[1] + 0.1
    errors, rough = (position_errors(found, judged) for found in (own, others))
    assert len(errors.error) > 100
    assert np.abs(np.median(errors.error, axis=0)).max() < 0.1
    assert errors.shared_with(rough).rmse < rough.shared_with(errors).rmse
    assert 0.55 < errors.summary()["within_1_sigma"] < 0.8


def test_structure_factors_stand_on_the_disks(judged):
    one = max(judged, key=lambda j: (j.label == 2).sum())
    image = load_detector("fcunet", one.probe).structure_factors(one.counts[None])[0]
    rows, columns = np.rint(one.position[one.label == 2]).astype(int).T
    assert image[rows, columns].mean() > 5 * image.mean()


def test_what_is_no_pattern_has_no_disks(judged):
    one = judged[0]
    detector = load_detector("fcunet", one.probe)
    hot = one.counts.astype(float)
    hot[3, 5] = 1e9
    empty, missing = np.zeros_like(hot), np.full_like(hot, np.nan)
    full = np.full_like(hot, 65535.0)
    peaks = detector(np.stack([empty, missing, full, hot, one.counts]))
    count = np.isfinite(peaks.position[..., 0]).sum(axis=1)
    assert count[:3].tolist() == [0, 0, 0]
    assert (peaks.status[:2] & PatternStatus.EMPTY).all()
    assert peaks.status[2] & PatternStatus.NO_DISKS
    assert count[3] == count[4] > 5
    np.testing.assert_allclose(peaks.position[3], peaks.position[4], atol=0.05)
