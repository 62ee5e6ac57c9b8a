"""Networks as compiled functions, each made once in a process."""

from typing import Any

from fcunet_dask.errors import ParameterError
from fcunet_dask.model.weights import ModelCard, find_weights, load_network
from fcunet_dask.types import Array

_NETWORKS: dict[tuple[str, int, int, bool], Any] = {}


def peaks_of(
    weights: str, card: ModelCard, most: int, least: float, *, mirrored: bool
) -> Any:
    """Return the function from patterns to peaks of some weights.

    Parameters
    ----------
    weights : str
        Their name or file.
    card : ModelCard
        What the file must be: it may have been replaced since.
    most, least, mirrored
        As those of `fcunet_dask.model.compiled.compiled_peaks`.

    Raises
    ------
    MissingDependencyError, ModelError
        If the network cannot be loaded.
    """
    key = (card.sha256, card.tile, most, mirrored)
    if key not in _NETWORKS:
        network = load_network(find_weights(weights)[0], card)
        from fcunet_dask.model.compiled import compiled_peaks  # noqa: PLC0415
        from fcunet_dask.model.tiles import in_tiles  # noqa: PLC0415

        peaks = compiled_peaks(network, most, least, mirrored=mirrored)

        def tiled(patterns: Array, probe: Array, mask: Array) -> Array:
            return in_tiles(peaks, patterns, probe, mask, card.tile)

        _NETWORKS[key] = tiled if card.tile else peaks
    return _NETWORKS[key]


def images_of(weights: str, card: ModelCard) -> Any:
    """Return the function from patterns to structure-factor images of some weights.

    Parameters
    ----------
    weights, card
        As those of `peaks_of`.

    Raises
    ------
    MissingDependencyError, ModelError
        If the network cannot be loaded.
    ParameterError
        If it knows one size of image only.
    """
    if card.tile:
        msg = f"{weights} knows images of {card.tile} px only: use 'fcunet'"
        raise ParameterError(msg)
    key = (card.sha256, 0, 0, False)
    if key not in _NETWORKS:
        network = load_network(find_weights(weights)[0], card)
        from fcunet_dask.model.compiled import compiled_images  # noqa: PLC0415

        _NETWORKS[key] = compiled_images(network)
    return _NETWORKS[key]
