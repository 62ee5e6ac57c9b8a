"""Physics finishes what a search starts: positions from the full pattern."""

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.camera import COUNTING, CameraNoise
from fcunet_dask.kernels.disk_model import DiskModel, disk_model
from fcunet_dask.kernels.disks import DiskFits, fit_disks
from fcunet_dask.kernels.doubles import seen_twice
from fcunet_dask.kernels.rim import Rim, disk_rim, rim_positions
from fcunet_dask.kernels.windows import pad_mask
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
_UNEVEN: Final = 0.05
"""What uneven fillings move a fit and a rim by, σ, radii."""
_MISLED: Final = 0.1
"""What uneven fillings move the outline by, σ, radii, beside a network that knows its
own errors: it is found with the smallest error of their mean."""
_SAME: Final = 0.35
"""Distance within which a rim belongs to a fit, radii."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """Disk fits on the full pattern.

    Attributes
    ----------
    model : DiskModel
        Of the disks.
    rim : Rim
        Of the disks.
    mask, rim_mask : array
        From `pad_mask`, for the windows of `model` and `rim`.
    radius : float
        px.
    camera : CameraNoise
        Of the patterns.
    """

    model: DiskModel
    rim: Rim
    mask: Array
    rim_mask: Array
    radius: float
    camera: CameraNoise

    @property
    def _uneven(self) -> float:
        """Variance of one coordinate that uneven fillings cause, px²."""
        return (_UNEVEN * self.radius) ** 2

    def on_device_of(self, array: Any) -> "Refinement":
        """Return it with its arrays on the device of `array`."""
        xp = namespace(array)
        return replace(
            self,
            model=self.model.on_device_of(array),
            rim=self.rim.on_device_of(array),
            mask=xp.asarray(self.mask),
            rim_mask=xp.asarray(self.rim_mask),
        )

    def fit(self, patterns: Array, found: Candidates) -> tuple[DiskFits, Array]:
        """Fit the disks, and say which fits can be believed: bool (m,)."""
        nearest = found.nearest_pixels(patterns.shape)
        offset = found.position - nearest[1:].T
        fits = fit_disks(
            patterns, self.mask, nearest, offset, self.model, self.camera, _STEPS
        )
        noise = fits.covariance[:, 0] + fits.covariance[:, 2]
        good = (fits.moved < max(1.5, 0.5 * self.radius)) & (noise < self.radius**2)
        good &= (fits.intensity > 2 * self.camera.gain) & (fits.step < _CONVERGED)
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

    def outlined(self, patterns: Array, found: Candidates) -> Candidates:
        """Replace positions by those of fit and rim where the fit succeeded.

        Where it failed, or is farther off than 4 σ of both and of what uneven fillings
        explain, the position stays as it is, with 3 × its standard deviation: disks
        that no outline fits say little about a lattice. A fit is given the network's
        variance on top of its own: the network knows which disks are filled such that
        an outline misleads.

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
        found, outline = self._outlines(patterns, found)
        good = outline.good[:, None]
        reported = outline.covariance + found.covariance
        return replace(
            found,
            position=outline.position,
            brightness=outline.brightness,
            covariance=xp.where(good, reported, found.covariance * _UNFITTED**2),
        )

    def weighed(self, patterns: Array, found: Candidates) -> Candidates:
        """Replace positions by their mean with those of the outline.

        Each counts by its variance; the outline's includes what uneven fillings move it
        by. The mean errs by hardly less than the better of the two, so the covariance
        stays as it is.

        Parameters
        ----------
        patterns, found
            As for `outlined`.

        Returns
        -------
        Candidates
        """
        found, outline = self._outlines(patterns, found)
        misled = outline.covariance[:, [0, 2]] + (_MISLED * self.radius) ** 2
        own = found.covariance[:, [0, 2]]
        share = own / (own + misled)
        return replace(
            found,
            position=found.position + share * (outline.position - found.position),
            brightness=outline.brightness,
        )

    def lit(self, patterns: Array, found: Candidates) -> Candidates:
        """Give each disk the brightness of its outline, and leave it where it is."""
        found, outline = self._outlines(patterns, found)
        return replace(found, brightness=outline.brightness)

    def _outlines(
        self, patterns: Array, found: Candidates
    ) -> tuple[Candidates, "_Outline"]:
        """Fit disks; those that are marked twice are left once.

        What a failed fit says, which may be no number, is otherwise not looked at.
        """
        xp = namespace(found.position)
        fits, good = self.fit(patterns, found)
        step = xp.where(good[:, None], fits.position - found.position, 0.0)
        fitted = xp.where(good[:, None], fits.covariance, found.covariance)
        uneven = 2 * self._uneven * xp.array([1.0, 0.0, 1.0])
        total = xp.linalg.inv(_matrices(found.covariance + fitted + uneven))
        good = good & (xp.einsum("mi,mij,mj->m", step, total, step) < _AGREEING)
        place = self._with_rim(patterns, found.image, found.position + step, fitted)
        outline = _Outline(
            position=xp.where(good[:, None], place, found.position),
            covariance=fitted,
            brightness=xp.maximum(xp.nan_to_num(fits.intensity, posinf=0.0), 0),
            good=good,
        )
        twice = seen_twice(
            found.image,
            found.position,
            fits.position,
            outline.position,
            found.brightness,
            self.radius,
        )
        return found.rows(~twice), outline.rows(~twice)

    def _with_rim(
        self, patterns: Array, image: Array, position: Array, covariance: Array
    ) -> Array:
        """Mean of the positions of fit, whose covariance is given, and rim.

        Uneven fillings pull the two independently, by s each; the noise of the rim, σ_r,
        is more than that of the fit, σ_f, which it contains. The share of the rim of the
        smallest error is s² / (σ_r² − σ_f² + 2 s²): half where there is no noise.
        """
        xp = namespace(position)
        place, variance = rim_positions(
            patterns, self.rim_mask, image, position, self.rim, self.camera
        )
        uneven = self._uneven
        more = xp.maximum(variance - covariance[:, [0, 2]], 0)
        share = uneven / (more + 2 * uneven)
        step = place - position
        near = xp.hypot(*step.T) < _SAME * self.radius
        return position + xp.where(near[:, None], share * step, 0.0)


@dataclass(frozen=True, slots=True)
class _Outline:
    """Disks by their outlines, (m, …); ``position`` is the start where not ``good``."""

    position: Array
    covariance: Array
    brightness: Array
    good: Array

    def rows(self, which: Array) -> "_Outline":
        """Return some of them."""
        return _Outline(*(getattr(self, f.name)[which] for f in fields(self)))


def make_refinement(
    mask: Array,
    radius: float,
    edge: float,
    *,
    structure: float,
    camera: CameraNoise = COUNTING,
    image: Array | None = None,
    center: tuple[float, float] = (0.0, 0.0),
) -> Refinement:
    """Prepare the fits of the disks of a scan.

    Parameters
    ----------
    mask : array
        (rows, columns), 1 where the camera measures.
    radius, edge, structure, image, center
        As those of `fcunet_dask.kernels.disk_model.disk_model`.
    camera : CameraNoise
        Of the patterns.
    """
    model = disk_model(radius, edge, structure=structure, image=image, center=center)
    rim = disk_rim(radius, edge, image, center)
    masks = pad_mask(mask, model.half), pad_mask(mask, rim.half)
    return Refinement(model, rim, *masks, radius, camera)


def _matrices(pairs: Array) -> Array:
    """(m, 3) yy, yx, xx → (m, 2, 2)."""
    return pairs[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
