"""What a count of a camera is: electrons, its dark level, and the noise of both."""

from dataclasses import dataclass
from typing import Final

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array

_ROUNDING: Final = 1e-6
"""Relative, of counts in single precision."""


@dataclass(frozen=True, slots=True)
class CameraNoise:
    """A pixel that reads n counts has the variance gain (n − dark) + readout².

    Attributes
    ----------
    gain : float
        Counts of one electron.
    readout : float
        Standard deviation of a pixel without electrons, counts.
    dark : float
        What such a pixel reads, counts.
    saturation : float
        What a pixel reads that would read more, counts; 0 where there is no such.
    """

    gain: float = 1.0
    readout: float = 0.0
    dark: float = 0.0
    saturation: float = 0.0

    @property
    def full(self) -> float:
        """Electrons from which on a pixel is saturated; infinite where none is."""
        if not self.saturation:
            return float("inf")
        return (1 - _ROUNDING) * (self.saturation - self.dark) / self.gain

    @property
    def floor(self) -> float:
        """Variance of a pixel without electrons, electrons²."""
        return (self.readout / self.gain) ** 2

    def undarkened(self, counts: Array, pixels: int = 1) -> Array:
        """Return counts, each of so many pixels, without their dark level.

        Parameters
        ----------
        counts : array
            Of any shape and real dtype.
        pixels : int
            How many of them each is the sum of.

        Returns
        -------
        array
            float32; the counts themselves where there is no dark level.
        """
        if not self.dark:
            return counts
        xp = namespace(counts)
        return counts.astype(xp.float32) - xp.float32(pixels * self.dark)

    def electrons(self, counts: Array, pixels: int = 1) -> Array:
        """Return electrons for counts; parameters as of `undarkened`."""
        found = self.undarkened(counts, pixels)
        return (
            found
            if self.gain == 1
            else found * namespace(counts).float32(1 / self.gain)
        )


COUNTING: Final = CameraNoise()
"""A camera that counts electrons one by one."""
