"""The image of the probe: round disks with a soft edge, and any measured shape."""

import numpy as np
import scipy.ndimage

from fcunet_dask.types import Array

OFFSETS = 16
"""Sub-pixel steps per pixel of a tabulated aperture."""


def disk_image(
    shape: tuple[int, int],
    center: tuple[float, float],
    radius: float,
    edge: float,
) -> Array:
    """Image of a round aperture, 1 inside, with an error-function edge.

    T(r) = ½ erfc((r − R) / √2 σ): a sharp disk blurred by a Gaussian of width σ that
    is small against R.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    center : (float, float)
        y, x, px.
    radius, edge : float
        R and σ, px.

    Returns
    -------
    numpy.ndarray
        float64 (rows, columns), 0 to 1.
    """
    y = np.arange(shape[0])[:, None] - center[0]
    x = np.arange(shape[1]) - center[1]
    return edge_profile(np.hypot(y, x), radius, edge)


def edge_profile(r: Array, radius: float, edge: float) -> Array:
    """Return the aperture's transmission at distance `r` from its centre, px."""
    from scipy.special import erfc  # noqa: PLC0415 - slow import, used while building

    return np.asarray(0.5 * erfc((r - radius) / (np.sqrt(2.0) * edge)))


def window_pixels(half: int) -> tuple[Array, Array]:
    """Pixels y, x (each (n,), int) of a round window of half width `half`, px."""
    axis = np.arange(-half, half + 1)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = y**2 + x**2 <= (half + 0.5) ** 2
    return y[inside], x[inside]


def round_table(radius: float, edge: float, half: int) -> Array:
    """Tabulate a round aperture and its slopes at sub-pixel offsets.

    Parameters
    ----------
    radius, edge : float
        Of the disk and of its edge, px.
    half : int
        Half width of the window, px.

    Returns
    -------
    numpy.ndarray
        float32 (3, OFFSETS², n): T, ∂T/∂c_y, ∂T/∂c_x on `window_pixels`, for a centre
        c at the middle of each of the OFFSETS × OFFSETS cells of a pixel.
    """
    dy, dx = _distances(half)
    r = np.maximum(np.hypot(dy, dx), 1e-6)
    slope = -np.exp(-((r - radius) ** 2) / (2 * edge**2)) / (np.sqrt(2 * np.pi) * edge)
    table = [edge_profile(r, radius, edge), -slope * dy / r, -slope * dx / r]
    return np.stack(table).astype(np.float32)


def image_table(image: Array, center: tuple[float, float], half: int) -> Array:
    """Tabulate a measured aperture (bullseye, shadowed) and its slopes.

    Cubic splines through the pixels of `image`, whose plateau should be near 1.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), the probe without noise or background.
    center : (float, float)
        y, x of the aperture in `image`, px.
    half : int
        Half width of the window, px.

    Returns
    -------
    numpy.ndarray
        float32 (3, OFFSETS², n), as `round_table`.
    """
    dy, dx = _distances(half)
    filtered = scipy.ndimage.spline_filter(np.asarray(image, float), order=3)

    def at(y: Array, x: Array) -> Array:
        points = np.stack([y + center[0], x + center[1]])
        return np.asarray(
            scipy.ndimage.map_coordinates(filtered, points, prefilter=False)
        )

    step = 0.05
    slope_y = (at(dy - step, dx) - at(dy + step, dx)) / (2 * step)
    slope_x = (at(dy, dx - step) - at(dy, dx + step)) / (2 * step)
    return np.stack([at(dy, dx), slope_y, slope_x]).astype(np.float32)


def normalized_aperture(
    image: Array, center: tuple[float, float], radius: float
) -> Array:
    """Measured probe with its background removed and its plateau at 1.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), counts.
    center : (float, float)
        y, x, px.
    radius : float
        Outer radius of the aperture, px.

    Returns
    -------
    numpy.ndarray
        float64 (rows, columns); 0 beyond 1.2 radii.
    """
    y = np.arange(image.shape[0])[:, None] - center[0]
    x = np.arange(image.shape[1]) - center[1]
    r = np.hypot(y, x)
    ring = (r > 1.2 * radius + 1) & (r < 1.6 * radius + 3)
    background = float(np.median(image[ring])) if ring.any() else 0.0
    inside = np.where(r < 1.2 * radius + 1, image - background, 0.0)
    plateau = float(np.quantile(inside[r < radius], 0.9))
    return np.asarray(np.clip(inside / max(plateau, 1e-30), 0, None))


def _distances(half: int) -> tuple[Array, Array]:
    """Distances y, x, (OFFSETS², n), of the window's pixels from each offset."""
    y, x = window_pixels(half)
    axis = cell_offsets()
    offset_y, offset_x = np.meshgrid(axis, axis, indexing="ij")
    return y - offset_y.reshape(-1, 1), x - offset_x.reshape(-1, 1)


def cell_offsets() -> Array:
    """Middles of the cells of a pixel, (OFFSETS,), px from the pixel's centre."""
    return (np.arange(OFFSETS) + 0.5) / OFFSETS - 0.5


def _field_covariance(a: Array, b: Array) -> Array:
    """Covariance of the filling between points (n, 2) and (m, 2), in radii."""
    distance2 = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.exp(-distance2 / (2 * 0.55**2))


def smooth_modes(y: Array, x: Array, radius: float, count: int) -> tuple[Array, Array]:
    """Modes of the unknown, smooth filling of a disk.

    Karhunen–Loève modes of a random field on the disk with zero mean and covariance
    exp(−d² / 2ℓ²), ℓ = 0.55 R: what dynamical scattering draws inside a disk is smooth
    but otherwise arbitrary.

    Parameters
    ----------
    y, x : numpy.ndarray
        Pixels of the window, (n,), px from its middle.
    radius : float
        Of the disk, px.
    count : int
        Number of modes.

    Returns
    -------
    modes : numpy.ndarray
        float32 (count + 1, n): a constant 1, then the modes, unit mean square each.
    variances : numpy.ndarray
        float64 (count,): share of the field's variance in each mode.
    """
    points = np.stack([y, x], -1) / radius
    stride = max(1, int(radius // 8))
    inside = (points**2).sum(-1) <= 1.15**2
    inside &= (y % stride == 0) & (x % stride == 0)
    inner = points[inside]
    n = len(inner)
    centering = np.eye(n) - 1 / n
    covariance = centering @ _field_covariance(inner, inner) @ centering / n
    values, vectors = np.linalg.eigh(covariance)
    count = min(count, n - 3)
    values = np.maximum(values[::-1][:count], 1e-9)
    vectors = vectors[:, ::-1][:, :count]
    extended = _field_covariance(points, inner) @ vectors / (values * np.sqrt(n))
    extended -= extended[inside].mean(axis=0)
    modes = np.concatenate([np.ones((len(points), 1)), extended], axis=1)
    return np.ascontiguousarray(modes.T, dtype=np.float32), values
