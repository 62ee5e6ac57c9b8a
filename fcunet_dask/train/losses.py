"""What a network is trained to make small."""

from typing import Any, Final

import keras
from keras import ops

FOREGROUND: Final = 10.0
"""Weight of the middle of a disk over that of the background."""
STRUCTURE: Final = 0.5
"""Weight of the structure factors of disks over that of the images."""
POSITION: Final = 0.15
"""Weight of the positions over that of the images: with it the gradients of the three
are of one size."""
LEAST, LARGEST = -4.0, 1.5
"""Range of the logarithm of a standard deviation, px."""


@keras.saving.register_keras_serializable(package="fcunet_dask")  # type: ignore[untyped-decorator]
def disk_loss(target: Any, output: Any) -> Any:
    """Squared errors of the images, negative log-likelihood of the positions.

    ⟨a (1 + 10 h)((ĥ − h)² + (ŝ − s)²)⟩ over all pixels, with a = 0 where nothing is
    asked, + ⟨½ (ŝ − s)² + 0.15 σ̂ (|δ̂ − δ|²/2σ̂² + 2 log σ̂)⟩ near disks. The factor
    σ̂, which is not differentiated, keeps the few disks of tiny σ̂ from taking over
    (Seitzer et al., ICLR 2022, β = 1/2).

    Parameters
    ----------
    target : tensor
        (n, rows, columns, `CHANNELS`) of `render_target`.
    output : tensor
        (n, rows, columns, `HEADS`) of a network.

    Returns
    -------
    tensor
        (n,).
    """
    heat, structure = target[..., 0], target[..., 1]
    asked, near = target[..., 4], target[..., 5] * target[..., 4]
    axes = (1, 2)
    miss = ops.square(output[..., 1] - structure)
    error = ops.square(output[..., 0] - heat) + miss
    images = ops.mean(asked * (1.0 + FOREGROUND * heat) * error, axis=axes)
    log_deviation = ops.clip(output[..., 4], LEAST, LARGEST)
    square = ops.sum(ops.square(output[..., 2:4] - target[..., 2:4]), axis=-1)
    surprise = 0.5 * square * ops.exp(-2.0 * log_deviation) + 2.0 * log_deviation
    surprise = surprise * ops.stop_gradient(ops.exp(log_deviation))
    disks = near * (STRUCTURE * miss + POSITION * surprise)
    return images + ops.sum(disks, axis=axes) / (ops.sum(near, axis=axes) + 1.0)
