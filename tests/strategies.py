"""Hypothesis strategies and made patterns that the tests share."""

import os

import numpy as np
from fcunet_dask.kernels.aperture import disk_image
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=bool(os.environ.get("CI")),
)
"""Few examples, no deadline: CI machines are shared."""

seeds = st.integers(0, 2**32 - 1)


@st.composite
def strains(draw, largest=0.15):
    """ε_xx, ε_yy, ε_xy, any finite strain of a crystal."""
    return np.array([draw(st.floats(-largest, largest)) for _ in range(3)])


angles = st.floats(-3.0, 3.0)
"""rad."""


@st.composite
def bases(draw):
    """(4,): g1_y, g1_x, g2_y, g2_x, not too oblique, of any handedness."""
    first, ratio = draw(st.floats(0.3, 30.0)), draw(st.floats(0.5, 2.0))
    turn = draw(st.floats(-3.1, 3.1))
    between = draw(st.floats(0.6, 2.5)) * draw(st.sampled_from([-1, 1]))
    second = first * ratio
    return np.array(
        [
            first * np.sin(turn),
            first * np.cos(turn),
            second * np.sin(turn + between),
            second * np.cos(turn + between),
        ]
    )


def lattice_patterns(rng, radius, shape, n=4, electrons=4e4, background=0.1):
    """Round disks on a lattice three radii wide, and where they are."""
    index, position, patterns = [], [], []
    axis = np.arange(-8, 9)
    hk = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    for i in range(n):
        at = np.array(shape) / 2 + rng.uniform(-0.5, 0.5, 2)
        at = at + hk @ np.array([[0.8, 3.2], [3.2, -0.8]]) * radius
        margin = 1.5 * radius + 2
        at = at[((at > margin) & (at < np.array(shape) - margin)).all(axis=1)]
        image = sum(disk_image(shape, tuple(c), radius, 0.5) for c in at)
        mean = electrons / len(at) / (np.pi * radius**2) * image + background
        patterns.append(rng.poisson(mean))
        index += [i] * len(at)
        position += at.tolist()
    return np.array(patterns), np.array(index), np.array(position)


def two_lattices(rng, radius, turn, n=4, electrons=5e4, shape=(112, 112)):
    """Disks on two square lattices of 18 px, one turned, and where they are."""
    axis = np.arange(-3, 4)
    hk = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    others = hk[(hk != 0).any(axis=1)] * 18.0
    at = np.concatenate([hk * 18.0, others @ np.array([[c, s], [-s, c]])])
    at = at[(np.abs(at) < np.array(shape) / 2 - radius - 4).all(axis=1)]
    at += np.array(shape) / 2
    brightness = rng.uniform(0.3, 1.0, len(at))
    brightness *= electrons / brightness.sum() / (np.pi * radius**2)
    image = sum(
        b * disk_image(shape, tuple(p), radius, 0.5)
        for b, p in zip(brightness, at, strict=True)
    )
    patterns = rng.poisson(np.broadcast_to(image, (n, *shape)))
    return patterns, np.repeat(np.arange(n), len(at)), np.tile(at, (n, 1))
