"""Patterns whose disks are known, made by hand."""

import numpy as np
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.simulate.artefacts import Artefacts, Camera, Clean, expect
from fcunet_dask.simulate.visibility import elastic_pattern
from fcunet_dask.train.judge.match import Found
from fcunet_dask.train.judge.truth import Scene

SIZE, RADIUS, STEP = 128, 4.0, 0.02


def make_scene(seed=0, thickness=20.0, dose=1e6):
    """Flat disks on an oblique lattice, from strong to invisible; a flat background."""
    rng = np.random.default_rng(seed)
    steps = np.arange(-5, 6)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    q = grid @ np.array([[14.2, 1.7], [-3.1, 15.3]])
    inside = (np.abs(q) < SIZE / 2 - RADIUS - 2).all(axis=1)
    q = q[inside]
    q = q[np.argsort(np.hypot(*q.T))]
    strength = 10 ** rng.uniform(-1, 1, len(q))
    strength[-3:] = 0
    share = strength**2 / 1e4
    share[0] = 0.5
    image = np.full((SIZE, SIZE), 1e-7)
    for place, s in zip(q + SIZE // 2, share, strict=True):
        disk = disk_image((SIZE, SIZE), tuple(place), RADIUS, 0.5)
        image += s * disk / disk.sum()
    middle = (SIZE // 2, SIZE // 2)
    probe = disk_image((SIZE, SIZE), middle, RADIUS, 0.5)
    clean = Clean(
        image.astype(np.float32),
        (probe / probe.sum()).astype(np.float32),
        q * STEP,
        strength,
        STEP,
    )
    artefacts = Artefacts(dose=dose, probe_dose=10 * dose, camera=Camera(bits=32))
    return Scene(
        clean=clean,
        expected=expect(clean, artefacts),
        elastic=elastic_pattern(clean, artefacts),
        artefacts=artefacts,
        potential=strength,
        key=(seed, 0),
        condition={
            "thickness": thickness,
            "semiangle": 2.0,
            "voltage": 200.0,
            "tilt": 1.0,
            "system": "cubic",
        },
    )


def echo(judged, noise=0.0, seed=0, deviation=None):
    """Detections at the visible disks, with errors of a known size."""
    rng = np.random.default_rng([seed, *judged.key])
    visible = judged.label == 2
    place = judged.position[visible]
    place = place + noise * rng.standard_normal(place.shape)
    n = len(place)
    variance = (noise if deviation is None else deviation) ** 2
    return Found(
        position=place,
        covariance=np.tile([variance, 0.0, variance], (n, 1)),
        intensity=judged.flux[visible],
        score=np.ones(n),
        structure_factor=judged.potential[visible],
        probability=np.ones(n),
    )


def detections(position, score=None, intensity=None):
    """Detections at given places."""
    position = np.reshape(np.asarray(position, float), (-1, 2))
    n = len(position)
    return Found(
        position=position,
        covariance=np.tile([0.01, 0.0, 0.01], (n, 1)),
        intensity=np.ones(n) if intensity is None else np.asarray(intensity, float),
        score=np.ones(n) if score is None else np.asarray(score, float),
        structure_factor=np.full(n, np.nan),
        probability=np.full(n, np.nan),
    )
