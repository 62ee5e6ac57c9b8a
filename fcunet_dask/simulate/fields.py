"""Displacement, composition and thickness over a scan, with exact gradients.

Places are (x, y) in Å in the frame of the scan, whose first position is the origin.
Displacements take an atom of the unstrained crystal to its place in the strained one.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import erf

from fcunet_dask.types import Array


class Field(Protocol):
    """What varies over a scan."""

    def displacement(self, place: Array) -> Array:
        """Return u (…, 2) as (x, y), Å, of atoms at `place` (…, 2) before strain."""

    def gradient(self, place: Array) -> Array:
        """Return ∂u_i/∂x_j (…, 2, 2) at `place` (…, 2) before strain."""

    def composition(self, place: Array) -> Array:
        """Return the share (…) of the second element of an alloy at `place`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    """The same strain everywhere.

    Parameters
    ----------
    xx, yy, xy : float
        ε_xx, ε_yy, ε_xy.
    rotation : float
        From +x towards +y, rad.
    share : float
        Of the second element.
    """

    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0
    rotation: float = 0.0
    share: float = 0.0

    def gradient(self, place: Array) -> Array:
        """Return F − 1 with F = R U, U = 1 + ε."""
        c, s = math.cos(self.rotation), math.sin(self.rotation)
        stretch = np.array([[1 + self.xx, self.xy], [self.xy, 1 + self.yy]])
        total = np.array([[c, -s], [s, c]]) @ stretch - np.eye(2)
        return np.broadcast_to(total, (*np.shape(place)[:-1], 2, 2))

    def displacement(self, place: Array) -> Array:
        """Return (F − 1) r."""
        return np.asarray(place @ self.gradient(np.zeros(2)).T)

    def composition(self, place: Array) -> Array:
        """Return `share` everywhere."""
        return np.full(np.shape(place)[:-1], self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Multilayer:
    """Coherent layers across x on a substrate: ε_yy = ε_xy = 0.

    Between `low` and `high` in `periods` periods, with interfaces that are error
    functions; outside the stack the substrate, with no strain.

    Parameters
    ----------
    start : float
        Where the first layer begins, Å.
    period : float
        Å; each layer is half of it.
    periods : int
        How many; each is a `high`, then a `low` layer.
    low, high : float
        ε_xx of the layers.
    width : float
        10–90 % width of an interface, Å.
    substrate, alloy : float and (float, float)
        Share of the second element in the substrate, and in (low, high) layers.
    """

    start: float = 140.0
    period: float = 180.0
    periods: int = 4
    low: float = -0.01
    high: float = 0.01
    width: float = 25.0
    substrate: float = 0.25
    alloy: tuple[float, float] = (0.0, 0.5)

    def _steps(self) -> tuple[Array, Array, Array]:
        """Return places of the interfaces, steps of strain, steps of composition."""
        edges = self.start + self.period / 2 * np.arange(2 * self.periods + 1)
        values = np.zeros((2 * self.periods + 2, 2))
        values[:, 1] = self.substrate
        values[1:-1:2] = [self.high, self.alloy[1]]
        values[2:-1:2] = [self.low, self.alloy[0]]
        steps = np.diff(values, axis=0)
        return edges, steps[:, 0], steps[:, 1]

    @property
    def _sigma(self) -> float:
        # 10–90 % of an error function are 2.563 standard deviations
        return self.width / 2.563

    def strain(self, x: Array) -> Array:
        """Return ε_xx at x (…), Å, of the unstrained crystal."""
        edges, steps, _ = self._steps()
        rise = 0.5 * (1 + erf((np.asarray(x)[..., None] - edges) / self._scale))
        return np.asarray(rise @ steps)

    @property
    def _scale(self) -> float:
        return math.sqrt(2) * self._sigma

    def gradient(self, place: Array) -> Array:
        """Return ∂u_x/∂x = ε_xx, the only component."""
        out = np.zeros((*np.shape(place)[:-1], 2, 2))
        out[..., 0, 0] = self.strain(np.asarray(place)[..., 0])
        return out

    def displacement(self, place: Array) -> Array:
        """Return ∫ε_xx dx along x: the integral of error functions."""
        edges, steps, _ = self._steps()
        t = (np.asarray(place)[..., 0, None] - edges) / self._scale
        area = 0.5 * self._scale * (t + t * erf(t) + np.exp(-(t**2)) / math.sqrt(np.pi))
        out = np.zeros(np.shape(place))
        out[..., 0] = area @ steps
        return out

    def composition(self, place: Array) -> Array:
        """Return the share of the second element, with the same interfaces."""
        edges, _, steps = self._steps()
        x = np.asarray(place)[..., 0, None]
        rise = 0.5 * (1 + erf((x - edges) / self._scale))
        return np.asarray(self.substrate + rise @ steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """A smooth random field: a sum of plane waves of displacement.

    Parameters
    ----------
    strain : float
        Root mean square of the components of the gradient.
    length : float
        Shortest wavelength, Å; the longest is four times as long.
    count : int
        How many waves.
    seed : int
        Which field.
    """

    strain: float = 0.005
    length: float = 400.0
    count: int = 6
    seed: int = 0

    def _modes(self) -> tuple[Array, Array, Array]:
        """Return wave vectors (n, 2), 1/Å, amplitudes (n, 2), Å, and phases (n,)."""
        rng = np.random.default_rng([self.seed, 79])
        length = self.length * 4 ** rng.random(self.count)
        angle, turn, phase = rng.uniform(0, 2 * np.pi, (3, self.count))
        k = np.stack([np.cos(angle), np.sin(angle)], -1) * (2 * np.pi / length)[:, None]
        # ⟨(∂_j u_i)²⟩ over both components is A² k² / 2 / 4 for each wave
        size = self.strain * math.sqrt(8 / self.count) / np.linalg.norm(k, axis=1)
        return k, np.stack([np.cos(turn), np.sin(turn)], -1) * size[:, None], phase

    def displacement(self, place: Array) -> Array:
        """Return Σ A sin(k·r + φ)."""
        k, size, phase = self._modes()
        return np.asarray(np.sin(np.asarray(place) @ k.T + phase) @ size)

    def gradient(self, place: Array) -> Array:
        """Return Σ A_i k_j cos(k·r + φ)."""
        k, size, phase = self._modes()
        wave = np.cos(np.asarray(place) @ k.T + phase)
        return np.einsum("...n,ni,nj->...ij", wave, size, k)

    def composition(self, place: Array) -> Array:
        """Return 0: the crystal is no alloy."""
        return np.zeros(np.shape(place)[:-1])


def unstrained_place(field: Field, place: Array) -> Array:
    """Where the matter at `place` was before strain: r₀ with r₀ + u(r₀) = r.

    Parameters
    ----------
    field : Field
        Displacements with gradients well below 1.
    place : array
        (…, 2) as (x, y), Å.

    Returns
    -------
    numpy.ndarray
        float64 (…, 2), Å.
    """
    source = np.asarray(place, dtype=float)
    for _ in range(30):
        step = field.displacement(source) + source - place
        source = source - step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return source
