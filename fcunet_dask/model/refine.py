"""Physics finishes what a search starts: positions from the full pattern."""

from dataclasses import dataclass, replace
from typing import Final

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.disk_model import DiskModel
from fcunet_dask.kernels.disks import DiskFits, fit_disks
from fcunet_dask.model.search import Candidates
from fcunet_dask.types import Array

_STEPS: Final = (2, 2)
"""Of the fit of a disk (`kernels.disks.fit_disks`), from a coarse start."""
_CONVERGED: Final = 0.25
"""Longest last step of a fit, px."""
_AGREEING: Final = 16.0
"""Squared distance of two positions, in their variance, up to which both count."""
_UNFITTED: Final = 3.0
"""Factor of the standard deviation of a position whose fit failed."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """Disk fits on the full pattern.

    Attributes
    ----------
    model : DiskModel
        Of the disks.
    mask : array
        From `pad_mask`.
    radius : float
        px.
    gain : float
        Counts of one electron.
    """

    model: DiskModel
    mask: Array
    radius: float
    gain: float

    def fit(self, patterns: Array, found: Candidates) -> tuple[DiskFits, Array]:
        """Fit the disks, and say which fits can be believed: bool (m,)."""
        nearest = found.nearest_pixels(patterns.shape)
        offset = found.position - nearest[1:].T
        fits = fit_disks(
            patterns, self.mask, nearest, offset, self.model, self.gain, _STEPS
        )
        noise = fits.covariance[:, 0] + fits.covariance[:, 2]
        good = (fits.moved < max(1.5, 0.5 * self.radius)) & (noise < self.radius**2)
        good &= (fits.intensity > 2 * self.gain) & (fits.step < _CONVERGED)
        return fits, good

    def fitted_only(self, patterns: Array, found: Candidates) -> Candidates:
        """Replace positions and brightness by those of the fit, and drop failed ones."""
        fits, good = self.fit(patterns, found)
        return replace(
            found.rows(good),
            position=fits.position[good],
            brightness=fits.intensity[good],
            covariance=fits.covariance[good],
        )

    def fitted_where_possible(self, patterns: Array, found: Candidates) -> Candidates:
        """Replace positions by those of the fit where it succeeded.

        Where it failed, or is more than 4 σ off, the position stays as it is, with 3 ×
        its standard deviation: disks that no outline fits say little about a lattice.
        What a failed fit says, which may be no number, is not looked at.

        Parameters
        ----------
        patterns : array
            (n, rows, columns), counts.
        found : Candidates
            With covariances.

        Returns
        -------
        Candidates
        """
        xp = namespace(found.position)
        fits, good = self.fit(patterns, found)
        step = xp.where(good[:, None], fits.position - found.position, 0.0)
        fitted = xp.where(good[:, None], fits.covariance, found.covariance)
        total = xp.linalg.inv(_matrices(found.covariance + fitted))
        good = good & (xp.einsum("mi,mij,mj->m", step, total, step) < _AGREEING)
        kept = found.covariance * _UNFITTED**2
        return replace(
            found,
            position=found.position + step * good[:, None],
            brightness=xp.maximum(xp.nan_to_num(fits.intensity, posinf=0.0), 0),
            covariance=xp.where(good[:, None], fitted, kept),
        )


def _matrices(pairs: Array) -> Array:
    """(m, 3) yy, yx, xx → (m, 2, 2)."""
    return pairs[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
