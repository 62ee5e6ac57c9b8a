"""The table of a survey; several may write it at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, Final

from fcunet_dask._commit import writing
from fcunet_dask._places import place
from fcunet_dask.errors import MissingDependencyError, StoreError

TABLE: Final = "survey.parquet"
_PAUSE_S: Final = 0.02
"""Before looking again what another process has written."""


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """One scan of a survey: one row of its table.

    Attributes
    ----------
    scan, out : str
        Where it is, and its results.
    state : str
        ``pending``, ``running`` (also: by another process), ``done``, ``failed``.
    error : str
        Why it failed, or who runs it.
    rows, columns : int
        Of the scan.
    fitted : float
        Share of positions with a lattice.
    disks : float
        On the lattice, mean.
    radius : float
        Of the probe, px.
    g1, g2, angle : float
        Lengths of the reference lattice's vectors, in `units`, and degrees between.
    units : str
        ``1/Å`` or ``px``.
    strain_xx, strain_yy, strain_xy, rotation : float
        Medians; 1 and rad.
    spread_xx, spread_yy, spread_xy : float
        Standard deviations over the scan.
    sigma : float
        Median standard deviation of a strain.
    seconds : float
        That this survey spent on it.
    """

    scan: str
    out: str
    state: str = "pending"
    error: str = ""
    rows: int = 0
    columns: int = 0
    fitted: float = float("nan")
    disks: float = float("nan")
    radius: float = float("nan")
    g1: float = float("nan")
    g2: float = float("nan")
    angle: float = float("nan")
    units: str = ""
    strain_xx: float = float("nan")
    strain_yy: float = float("nan")
    strain_xy: float = float("nan")
    rotation: float = float("nan")
    spread_xx: float = float("nan")
    spread_yy: float = float("nan")
    spread_xy: float = float("nan")
    sigma: float = float("nan")
    seconds: float = 0.0


def update_table(
    folder: str, change: Callable[[list[Scanned]], Sequence[Scanned]]
) -> None:
    """Put another table in the place of the one that is there.

    Parameters
    ----------
    folder : str
        Folder, or URL, of the survey.
    change : callable
        From the rows that are there to all that shall be; called again where another
        process was quicker.

    Raises
    ------
    StoreError
        If the table is damaged, or cannot be written.
    """
    where = place(folder)
    while True:
        seen = where.stamp(TABLE)
        if seen is None:
            with writing(folder, 0):
                where.create(TABLE, b"")
            continue
        data = _packed(change(read_table(folder)))
        with writing(folder, len(data)):
            if where.swap(TABLE, data, seen):
                return
        time.sleep(_PAUSE_S)


def read_table(folder: str) -> list[Scanned]:
    """Return the rows of the table; none where there is none yet."""
    _, parquet = pyarrow_parquet()
    try:
        data = place(folder).read(TABLE)
        rows = parquet.read_table(BytesIO(data)).to_pylist() if data else []
        return [Scanned(**row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        msg = f"{folder}/{TABLE} is no table of a survey ({error}): move it away"
        raise StoreError(msg) from error


def _packed(rows: Sequence[Scanned]) -> bytes:
    pyarrow, parquet = pyarrow_parquet()
    buffer = BytesIO()
    parquet.write_table(
        pyarrow.Table.from_pylist([asdict(row) for row in rows]), buffer
    )
    return buffer.getvalue()


def pyarrow_parquet() -> tuple[Any, Any]:
    """Return both modules, or say how to install them."""
    try:
        import pyarrow  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        msg = "the table of a survey needs pyarrow: pip install 'fcunet-dask[survey]'"
        raise MissingDependencyError(msg) from error
    return pyarrow, parquet
