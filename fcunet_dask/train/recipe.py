"""What a training is: a few numbers in a TOML file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from fcunet_dask._recipes import check_types, read_recipe, refuse_unknown
from fcunet_dask.errors import ParameterError
from fcunet_dask.simulate.conditions import ArtefactRecipe
from fcunet_dask.train.data import DataRecipe

SHIPPED: Final = ("fcunet", "fcunet_paper", "quick")
"""Recipes in the package, by name."""
PRECISIONS: Final = ("float32", "mixed_bfloat16")
"""Policies of Keras; float16 would need a scaled loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """Network, data and optimiser of a training.

    Parameters
    ----------
    network : str
        A name of `fcunet_dask.model.network.ARCHITECTURES`.
    options : mapping
        Parameters of the network.
    data : DataRecipe
        How examples are cut.
    start : str
        Weights to begin with, as of `find_weights`; none where empty.
    batch : int
        Examples in a step; a multiple of ``data.crops``.
    steps : int
        Of the optimiser.
    rate : float
        Highest learning rate; it rises over `warm_up` steps and falls as a cosine to
        2 %.
    warm_up : int
        Steps.
    decay : float
        Weight decay of AdamW.
    clip : float
        Largest norm of the gradient of one weight array.
    average : float
        Momentum of the running average of the weights, which is what is kept.
    seed : int
        Of the first weights and of all batches.
    precision : str
        Keras policy: ``float32``, or ``mixed_bfloat16`` where the processor has it.

    Raises
    ------
    ParameterError
        If a number is out of its range.
    """

    network: str = "fcunet"
    options: Mapping[str, Any] = field(default_factory=dict)
    data: DataRecipe = field(default_factory=DataRecipe)
    start: str = ""
    batch: int = 32
    steps: int = 8000
    rate: float = 3e-3
    warm_up: int = 200
    decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.998
    seed: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_types(self, ParameterError)
        _require(
            isinstance(self.options, Mapping),
            f"options must be a table, got {self.options!r}",
        )
        for name in ("batch", "steps", "rate", "clip"):
            value = getattr(self, name)
            _require(value > 0, f"{name} must be positive, got {value!r}")
        for name in ("warm_up", "decay", "seed"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} must not be negative, got {value!r}")
        _require(
            self.precision in PRECISIONS,
            f"precision is {' or '.join(PRECISIONS)}, got {self.precision!r}",
        )
        _require(
            not self.batch % self.data.crops,
            f"batch {self.batch} must be a multiple of data.crops {self.data.crops}",
        )
        _require(
            0 <= self.average < 1, f"average must lie in 0 … 1, got {self.average!r}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: part of the provenance of the weights."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainRecipe":
        """Return the recipe of a mapping; unknown keys are refused by name.

        Raises
        ------
        ParameterError
            If a key is unknown or a value is out of range.
        """
        data = _table(values.get("data", {}), "data")
        changes = _table(data.pop("artefacts", {}), "data.artefacts")
        refuse_unknown(data, _names(DataRecipe), ParameterError, "data.")
        refuse_unknown(
            changes, _names(ArtefactRecipe), ParameterError, "data.artefacts."
        )
        refuse_unknown(values, _names(cls), ParameterError)
        ranges: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()
        }
        artefacts = replace(DataRecipe().artefacts, **ranges)
        return cls(**{**values, "data": DataRecipe(**data, artefacts=artefacts)})


def _require(holds: bool, words: str) -> None:
    if not holds:
        msg = f"recipe: {words}"
        raise ParameterError(msg)


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        msg = f"recipe: {name} must be a table, got {value!r}"
        raise ParameterError(msg)
    return dict(value)


def _names(kind: type) -> list[str]:
    return [f.name for f in fields(kind)]


def load_recipe(source: str | Path) -> TrainRecipe:
    """Return a shipped recipe by its name, or one from a TOML file.

    Parameters
    ----------
    source : path-like
        ``fcunet``, ``fcunet_paper``, ``quick`` (minutes), or a file.

    Returns
    -------
    TrainRecipe

    Raises
    ------
    ParameterError
        If there is no such recipe or file, it is no TOML, or it is out of range.

    Examples
    --------
    >>> load_recipe("fcunet").network
    'fcunet'
    """
    values = read_recipe(source, "fcunet_dask.train", SHIPPED, ParameterError)
    return TrainRecipe.from_dict(values)
