"""How like the probe a pattern is, at every pixel."""

from dataclasses import dataclass

import numpy as np

from fcunet_dask.kernels.arrays import fft_module, namespace
from fcunet_dask.types import Array

_SMALLEST, _LARGEST = 0.2, 1.25
"""Noise of the strength where there are hardly any electrons, and where neighbours share
it."""
TWENTIETH = 0.2533
"""20th percentile of the magnitude of Gaussian noise, standard deviations."""


def bin_patterns(patterns: Array, factor: int) -> Array:
    """Sum pixels `factor` × `factor`, in float32; a remainder at the end is cut.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), any real dtype: sums cannot overflow.
    factor : int
        1 returns the patterns themselves.

    Returns
    -------
    array
        float32 (n, rows // factor, columns // factor).
    """
    xp = namespace(patterns)
    out = patterns.astype(xp.float32, copy=False)
    if factor == 1:
        return out
    _, rows, columns = out.shape
    rows, columns = rows // factor, columns // factor
    out = out[:, : rows * factor, : columns * factor]
    columns_summed = out[:, :, ::factor].copy()
    for i in range(1, factor):
        columns_summed += out[:, :, i::factor]
    summed = columns_summed[:, ::factor].copy()
    for i in range(1, factor):
        summed += columns_summed[:, i::factor]
    return summed


@dataclass(frozen=True, slots=True)
class NormalizedTemplate:
    """What locally normalised correlation needs of probe, window and mask.

    Each attribute is float32 on the grid of the patterns or complex64 on that of
    their half spectra.
    """

    template_ft: Array
    window_ft: Array
    template_sum: Array
    template_norm: Array
    count: Array
    mask: Array


def normalized_template(
    template: Array, window: Array, mask: Array
) -> NormalizedTemplate:
    """Prepare `normalized_correlation`.

    Parameters
    ----------
    template, window : numpy.ndarray
        (rows, columns), the expected √counts and the pixels (0 or 1) over which they
        are compared, both centred on pixel (0, 0) (wrapped around).
    mask : numpy.ndarray
        (rows, columns), 1 where the detector measures.

    Returns
    -------
    NormalizedTemplate
    """
    fft = fft_module(template)
    shape = template.shape

    def correlate(image: Array, kernel_ft: Array) -> Array:
        return np.asarray(
            fft.irfft2(fft.rfft2(image) * kernel_ft, s=shape), dtype=np.float64
        )

    template = template * window
    template_ft = np.conj(fft.rfft2(template))
    window_ft = np.conj(fft.rfft2(window))
    count = np.maximum(correlate(mask, window_ft), 1e-3)
    total = correlate(mask, template_ft)
    squares = correlate(mask, np.conj(fft.rfft2(template**2)))
    full = float((template**2).sum() - template.sum() ** 2 / window.sum())
    seen = squares - total**2 / count
    variance = np.maximum(seen, 0.05 * full)
    # a sliver beside a beam stop is like anything
    norm = np.where(seen > 0.25 * full, 1 / np.sqrt(variance), 0.0)
    single = [total / count, norm, count, mask]
    mean, norm, number, kept = (np.asarray(a, np.float32) for a in single)
    return NormalizedTemplate(
        template_ft.astype(np.complex64),
        window_ft.astype(np.complex64),
        mean,
        norm,
        number,
        kept,
    )


def normalized_correlation(
    counts: Array, prepared: NormalizedTemplate, floor: float = 0.05
) -> tuple[Array, Array]:
    """Correlate √counts with the template, each window with its own mean and variance.

    ρ = Σ m (x − x̄)(T − T̄) / √(Σ m (x − x̄)² Σ m (T − T̄)²), sums over the window around
    a pixel and the pixels m that measure (Lewis, *Vision Interface* (1995) 120; with
    masks: Padfield, *IEEE Trans. Image Process.* 21 (2012) 2706), with x = √counts,
    whose noise is the same everywhere.

    Parameters
    ----------
    counts : array
        float32 (n, rows, columns), not negative.
    prepared : NormalizedTemplate
        On the same device.
    floor : float
        Added to the variance of a pixel, so that an empty window has ρ = 0.

    Returns
    -------
    likeness : array
        float32 (n, rows, columns): ρ, −1 to 1.
    strength : array
        float32 (n, rows, columns): the disk's height in √counts, fitted at each pixel,
        times √Σ(T − T̄)²; its noise is about ½ where the counts are Poisson electrons.
    """
    xp = namespace(counts)
    fft = fft_module(counts)
    counts = xp.maximum(counts, 0) * prepared.mask
    root = xp.sqrt(counts)
    shape = counts.shape[-2:]
    root_ft = fft.rfft2(root)
    mean_sum = fft.irfft2(root_ft * prepared.window_ft, s=shape)
    root_ft *= prepared.template_ft
    strength = fft.irfft2(root_ft, s=shape)
    counts_ft = fft.rfft2(counts)
    counts_ft *= prepared.window_ft
    variance = fft.irfft2(counts_ft, s=shape)
    strength -= mean_sum * prepared.template_sum
    strength *= prepared.template_norm
    mean_sum *= mean_sum
    mean_sum /= prepared.count
    variance -= mean_sum
    variance = xp.maximum(variance, 0, out=variance)
    variance += floor * prepared.count
    xp.sqrt(variance, out=variance)
    return strength / variance, strength


def noise_level(
    strength: Array, prepared: NormalizedTemplate, counts: Array, floor: float = 0.0
) -> Array:
    """Noise of the strength of each pattern: ½ for many Poisson electrons, or up to 1¼.

    From the 20th percentile of its magnitude, which Gaussian noise has at 0.2533
    standard deviations: more than ½ where the camera adds noise of its own or spreads
    electrons over pixels, less where hardly any fall between the disks: never less than
    0.2, so that a few in one place are no disk. Where disks leave no empty place it says
    too much, hence the upper limit. That is ½ for readout noise, which neighbours do not
    share, and between where there are electrons besides. What readout noise alone makes
    is known, and the lower limit.

    Parameters
    ----------
    strength : array
        (n, rows, columns), from `normalized_correlation`.
    prepared : NormalizedTemplate
        With which: where its window measures nothing there is no noise to see.
    counts : array
        (n, rows, columns), as correlated.
    floor : float
        How many of each are there for the readout noise.

    Returns
    -------
    array
        (n,).
    """
    xp = namespace(strength)
    seen = prepared.template_norm[1::4, 1::4] > 0
    sample = xp.abs(strength[:, 1::4, 1::4][:, seen])
    if not sample.shape[1]:
        return xp.ones(len(strength), strength.dtype)
    rank = sample.shape[1] // 5
    least, most = _SMALLEST, _LARGEST
    if floor:
        typical = xp.median(counts[:, 1::4, 1::4][:, seen], axis=1)
        share = floor / xp.maximum(typical, floor)  # of the variance
        alone = min(max(_root_noise(floor), _SMALLEST), 0.5)
        least, most = (
            xp.sqrt(known**2 * share + s**2 * (1 - share))
            for known, s in ((alone, least), (0.5, most))
        )
    return xp.clip(xp.partition(sample, rank, axis=1)[:, rank] / TWENTIETH, least, most)


def _root_noise(variance: float) -> float:
    """Return the standard deviation of √n, n of that mean and variance, cut at 0."""
    z = np.linspace(-6, 6, 601)
    root = np.sqrt(np.maximum(variance + np.sqrt(variance) * z, 0))
    weight = np.exp(-0.5 * z**2)
    mean = np.average(root, weights=weight)
    return float(np.sqrt(np.average((root - mean) ** 2, weights=weight)))


def power_correlation(patterns: Array, kernel_ft: Array, power: float) -> Array:
    """Cross (power 1), hybrid (between) and phase (0) correlation.

    c = FT⁻¹(|m|ᵖ exp(i arg m)), m = FT(pattern) · FT(kernel)* (Pekin et al.,
    *Ultramicroscopy* 176 (2017) 170).

    Parameters
    ----------
    patterns : array
        float32 (n, rows, columns).
    kernel_ft : array
        complex64 (rows, columns // 2 + 1), the conjugate spectrum of the kernel.
    power : float
        0 to 1.

    Returns
    -------
    array
        float32 (n, rows, columns), negative values cut to 0.
    """
    xp = namespace(patterns)
    fft = fft_module(patterns)
    product = fft.rfft2(patterns) * kernel_ft
    if power != 1:
        magnitude = xp.abs(product)
        magnitude = xp.maximum(
            magnitude, 1e-6 * magnitude.max(axis=(1, 2))[:, None, None]
        )
        product *= magnitude ** (power - 1)
    return xp.maximum(fft.irfft2(product, s=patterns.shape[-2:]), 0)
