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
_STRUCTURED: Final = 0.04
"""Relative variance of a filling that counts as structured."""


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

    def combined(
        self, patterns: Array, found: Candidates, systematic: float
    ) -> Candidates:
        """Mean of each position and its fit, weighted by their inverse covariances.

        Where the fit failed, or is more than 4 σ off, the position stays as it is; what
        a failed fit says, which may be no number, is not looked at.

        Parameters
        ----------
        patterns : array
            (n, rows, columns), counts.
        found : Candidates
            With covariances.
        systematic : float
            Error of the fit of a disk whose filling is strongly structured, radii: what
            counting statistics do not know of. Flat disks have none.

        Returns
        -------
        Candidates
        """
        xp = namespace(found.position)
        fits, good = self.fit(patterns, found)
        structured = fits.filling**2 / (fits.filling**2 + _STRUCTURED**2)
        misfit = (systematic * self.radius) ** 2 * structured
        fit = _matrices(fits.covariance) + misfit[:, None, None] * xp.eye(2)
        prior = _matrices(found.covariance)
        fit = xp.where(good[:, None, None], fit, prior)
        step = fits.position - found.position
        step = xp.where(good[:, None], step, 0.0)[:, :, None]
        total = xp.linalg.inv(prior + fit)
        distance = (step.transpose(0, 2, 1) @ total @ step)[:, 0, 0]
        good = good & (distance < _AGREEING)
        gain = prior @ total
        position = found.position + (gain @ step)[:, :, 0] * good[:, None]
        both = prior - gain @ prior
        covariance = xp.where(good[:, None, None], both, prior)
        return replace(
            found,
            position=position,
            brightness=xp.maximum(xp.nan_to_num(fits.intensity, posinf=0.0), 0),
            covariance=covariance.reshape(-1, 4)[:, [0, 1, 3]],
        )


def _matrices(pairs: Array) -> Array:
    """(m, 3) yy, yx, xx → (m, 2, 2)."""
    return pairs[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
