"""The patterns of the tests."""

import pytest
from tests.train.judge.scenes import make_scene


@pytest.fixture(scope="session")
def scenes():
    return [make_scene(i, thickness=t) for i, t in enumerate((10, 20, 40, 60))]


@pytest.fixture(scope="session")
def judged(scenes):
    return [scene.judged() for scene in scenes]
