"""From the images that a network gives to peaks of fixed number, on its device."""

from typing import Any, Final

from keras import ops

FIELDS: Final = ("heat", "y", "x", "structure_factor", "log_deviation", "likeness")
"""Columns of what `extract_peaks` returns."""
FARTHEST: Final = 1.5
"""Longest offset that is believed, px."""


def extract_peaks(output: Any, most: int, least: float) -> Any:
    """Local maxima of the heat map, highest first.

    Parameters
    ----------
    output : tensor
        (n, rows, columns, `HEADS`) of a network, or with the likeness to the probe as
        a further channel.
    most : int
        Peaks of a pattern.
    least : float
        Least height; missing peaks have height 0.

    Returns
    -------
    tensor
        float32 (n, most, `FIELDS`): height; position, px; √ of the relative |V_g|; log
        of the standard deviation of each coordinate, px; likeness, NaN if not given.
    """
    n, rows, columns, channels = ops.shape(output)
    heat = output[..., :1]
    around = ops.max_pool(heat, 3, strides=1, padding="same")
    peak = ops.logical_and(heat >= around, heat > least)
    height = ops.reshape(ops.where(peak, heat, 0.0), (n, rows * columns))
    height, index = ops.top_k(height, min(most, rows * columns))
    flat = ops.reshape(output[..., 1:], (n, rows * columns, channels - 1))
    found = ops.take_along_axis(flat, ops.expand_dims(index, -1), axis=1)
    offset = ops.clip(found[..., 1:3], -FARTHEST, FARTHEST)
    index = ops.cast(index, "int32")
    y = ops.cast(index // columns, "float32") + offset[..., 0]
    x = ops.cast(index % columns, "float32") + offset[..., 1]
    likeness = found[..., 4] if channels > 5 else ops.full_like(height, float("nan"))
    return ops.stack([height, y, x, found[..., 0], found[..., 3], likeness], axis=-1)
