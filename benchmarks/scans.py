"""Scans that all programs are given: one of fcunet_dask's, one that shares no code with it.

`independent` draws disks with a logistic edge, not the error function that fcunet_dask
assumes, and computes its truth with plain matrices.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from fcunet_dask import simulate_scan
from fcunet_dask.simulate.kinematic import disks


@dataclass(frozen=True)
class Scan:
    """Patterns (rows, columns, q_y, q_x) with a vacuum probe and the truth.

    Vectors are (y, x), px; strain is xx, yy, xy; the first quarter of the columns is
    unstrained. Electrons of a disk and of a background pixel under it are (rows, columns,
    disks), where they are known.
    """

    name: str
    patterns: Any
    probe: Any
    radius: float
    centre: Any
    origin: Any
    reference: Any
    indices: Any
    strain: Any
    electrons: Any = None
    background: Any = None

    @property
    def unstrained(self):
        """Where the reference is taken, bool (rows, columns)."""
        mask = np.zeros(self.patterns.shape[:2], bool)
        mask[:, : round(0.25 * mask.shape[1])] = True
        return mask


SIZES = {
    128: {"detector": (128, 128), "radius": 5.0, "length": 21.5},
    256: {"detector": (256, 256), "radius": 12.0, "length": 44.0},
}


def own(size, structure, shape=(16, 32), dose=2e4, seed=0):
    """Scan of `fcunet_dask.simulate_scan`."""
    kind = SIZES[size]
    g1, g2 = square_lattice(kind["length"])
    scan, recipe = _simulated(
        {
            "scan": shape,
            "detector": kind["detector"],
            "radius": kind["radius"],
            "g1": tuple(g1),
            "g2": tuple(g2),
            "dose": dose,
            "structure": structure,
            "background": 0.05 if structure else 0.0,
            "seed": seed,
        }
    )
    strain = np.stack([scan[f"true_strain_{n}"].values for n in ("xx", "yy", "xy")], -1)
    step = recipe.calibration.q_step
    middle = np.array(recipe.detector) // 2
    return Scan(
        name=f"simulate_scan {size}², structure {structure}",
        patterns=scan.pattern.values,
        probe=scan.probe.values,
        radius=recipe.radius,
        centre=np.array(recipe.beam),
        origin=scan.true_origin.values / step + middle,
        reference=np.concatenate([g1, g2]),
        indices=disks(recipe).indices,
        strain=strain,
    )


def _simulated(changes):
    from fcunet_dask.simulate import KinematicRecipe  # noqa: PLC0415

    recipe = KinematicRecipe(**changes)
    return simulate_scan(recipe, blocks=None), recipe


def square_lattice(length, angle=17.0):
    """g₁ and g₂ of a square lattice, (y, x), px."""
    c, s = length * np.cos(np.radians(angle)), length * np.sin(np.radians(angle))
    return np.array([s, c]), np.array([c, -s])


def independent(size, structure, shape=(16, 32), dose=2e4, seed=0, background=None):
    """Scan of the generator below; same sizes, doses and contrasts."""
    rng = np.random.default_rng(seed)
    kind = SIZES[size]
    reference = np.stack(square_lattice(kind["length"]))
    centre = np.array(kind["detector"]) / 2 + (-0.37, 0.21)
    strain, turn = _field(shape)
    vectors = _strained(reference, strain, turn)
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij")
    origin = centre + np.stack([1.5 * y, -1.0 * x], -1)
    indices = _visible(reference, centre, kind)
    at = origin[:, :, None] + indices @ vectors
    if background is None:
        background = 0.05 if structure else 0.0
    electrons = _electrons(indices, reference, shape, rng) * dose * (1 - background)
    patterns = np.empty((*shape, *kind["detector"]), np.uint16)
    under = np.empty(electrons.shape)
    for where in np.ndindex(shape):
        mean = _glow(kind["detector"], origin[where], background * dose)
        under[where] = mean[tuple(np.rint(at[where]).astype(int).T)]
        for number, (place, amount) in enumerate(
            zip(at[where], electrons[where], strict=True)
        ):
            contrast = structure * (0.35 if number == 0 else 1.0)
            _draw(mean, place, amount, kind["radius"], contrast, rng)
        patterns[where] = rng.poisson(mean)
    probe = np.zeros(kind["detector"])
    _draw(probe, centre, 100 * dose, kind["radius"], 0.0, rng)
    return Scan(
        name=f"independent {size}², structure {structure}",
        patterns=patterns,
        probe=rng.poisson(probe).astype(np.float32),
        radius=kind["radius"],
        centre=centre,
        origin=origin,
        reference=reference.ravel(),
        indices=indices,
        strain=strain,
        electrons=electrons,
        background=under,
    )


def edge_profile(r, radius):
    """Transmission of `independent`'s disks at distance `r` from the centre, px."""
    return 1 / (1 + np.exp(np.clip(4 * (r - radius), -60, 60)))


def _field(shape):
    """Smooth strain (…, xx, yy, xy) and rotation, 0 in the first quarter of columns."""
    rows, columns = shape
    first = round(0.25 * columns)
    u = np.clip((np.arange(columns) - first + 1) / (columns - first), 0, 1)
    rise = u**2 * (3 - 2 * u) * np.ones((rows, 1))
    phase = 2 * np.pi * (np.arange(rows)[:, None] + 0.5) / rows
    xx = 0.02 * rise * (0.6 + 0.4 * np.cos(phase))
    yy = -0.012 * rise * (0.7 + 0.3 * np.sin(phase))
    xy = 0.006 * rise * np.sin(phase + 0.7)
    return np.stack([xx, yy, xy], -1), np.radians(1.0) * rise * np.cos(phase / 2)


def _strained(reference, strain, turn):
    """Rows g₁, g₂ (…, 2, 2) of the lattice deformed by F = R (1 + ε), in (y, x)."""
    xx, yy, xy = np.moveaxis(strain, -1, 0)
    stretch = np.stack([1 + yy, xy, xy, 1 + xx], -1).reshape(*turn.shape, 2, 2)
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.stack([c, s, -s, c], -1).reshape(*turn.shape, 2, 2)
    return reference @ np.linalg.inv(rotation @ stretch)


def _visible(reference, centre, kind):
    """Return the indices of the disks that stay on the detector, the direct beam first."""
    axis = np.arange(-4, 5)
    indices = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    at = centre + indices @ reference
    low = kind["radius"] + 3.75
    high = np.array(kind["detector"]) - low - 1
    indices = indices[((at > low) & (at < high)).all(1)]
    return indices[np.argsort((indices**2).sum(1), kind="stable")]


def _electrons(indices, reference, shape, rng):
    """Share of the dose in each disk at each position, 45 % in the direct beam."""
    length = np.hypot(*(indices @ reference).T) / np.hypot(*reference[0])
    share = np.exp(-((length / 2.4) ** 2)) * rng.uniform(0.5, 1.0, len(indices))
    share[0] = 0
    share *= 0.55 / share.sum()
    share[0] = 0.45
    jitter = 1 + 0.5 * np.clip(0.5 * rng.standard_normal((*shape, len(indices))), -1, 1)
    jitter[..., 0] = 1
    return share * jitter


def _glow(detector, origin, electrons):
    """Diffuse background around the direct beam."""
    y, x = np.ogrid[: detector[0], : detector[1]]
    decay = np.exp(-np.hypot(y - origin[0], x - origin[1]) / (0.175 * detector[0]))
    return electrons * decay / decay.sum()


def _draw(mean, place, electrons, radius, contrast, rng):
    """Add a disk with a logistic edge, a random gradient and a fringe."""
    half = int(radius) + 6
    corner = np.rint(place).astype(int) - half
    low = np.maximum(corner, 0)
    high = np.minimum(corner + 2 * half + 1, mean.shape)
    y = np.arange(low[0], high[0])[:, None] - place[0]
    x = np.arange(low[1], high[1]) - place[1]
    disk = edge_profile(np.hypot(y, x), radius)
    if contrast:
        slope = 0.5 * rng.standard_normal(2)
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        wave = 2 * np.pi * rng.uniform(0.3, 1.0) / radius
        fringe = np.cos(wave * (np.cos(angle) * y + np.sin(angle) * x) + phase)
        filling = (slope[0] * y + slope[1] * x) / radius + fringe
        disk *= np.maximum(1 + contrast * filling, 0.02)
    mean[low[0] : high[0], low[1] : high[1]] += electrons * disk / disk.sum()
