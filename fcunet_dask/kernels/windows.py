"""Windows around disks, cut from patterns: electrons, and which pixels measure."""

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.disk_model import DiskModel
from fcunet_dask.types import Array


def pad_mask(mask: Array, half: int) -> Array:
    """Surround a mask (1 = measures) by a border of 0 as wide as the window."""
    xp = namespace(mask)
    return xp.pad(mask.astype(xp.float32), half)


def cut_windows(
    patterns: Array,
    padded_mask: Array,
    index: Array,
    model: DiskModel,
    camera: CameraNoise,
) -> tuple[Array, Array]:
    """Electrons and mask, float32 (m, n), around each disk; NaN and hot pixels are masked.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), counts, any real dtype.
    padded_mask : array
        float32 (rows + 2 half, columns + 2 half), from `pad_mask`.
    index : array
        int (3, m): pattern, row, column of each disk.
    model : DiskModel
        On the same device.
    camera : CameraNoise
        Of the patterns.
    """
    xp = namespace(patterns)
    _, rows, columns = patterns.shape
    image, row, column = index
    base = (image * rows + row) * columns + column
    pixels = base[:, None] + (model.y * columns + model.x)
    flat = patterns.reshape(-1)
    counts = xp.take(flat, xp.clip(pixels, 0, flat.size - 1)).astype(xp.float32)
    width = columns + 2 * model.half
    base = (row + model.half) * width + column + model.half
    kept = xp.take(padded_mask.reshape(-1), base[:, None] + (model.y * width + model.x))
    seen = xp.isfinite(counts)
    if not bool(seen.all()):
        kept = kept * seen
        counts = xp.where(seen, counts, 0)
    counts = camera.undarkened(counts)
    counts *= kept
    if camera.gain != 1:
        counts *= 1 / camera.gain
    most = max(50.0, 8 * len(model.y) / float(model.area[0]))
    _leave_out_hot(counts, kept, most, camera.floor**0.5)
    return counts, kept


def _leave_out_hot(counts: Array, kept: Array, most: float, noise: float) -> None:
    """Mask pixels `most` times brighter than the rest of their window, in place.

    No disk has one, and a single one would be all that a fit begins with.
    """
    xp = namespace(counts)
    rows = xp.arange(len(counts))
    for _ in range(4):
        top = counts.argmax(axis=1)
        highest = counts[rows, top]
        rest = (counts.sum(axis=1, dtype=xp.float64) - highest) / counts.shape[1]
        hot = highest > most * (xp.maximum(rest, 0) + (1 + noise))
        if not bool(hot.any()):
            return
        kept[rows[hot], top[hot]] = 0
        counts[rows[hot], top[hot]] = 0
