"""Many scans in one go: one table, and no scan's failure is another's."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask._bands import cluster_client
from fcunet_dask._commit import BlockStore, writing
from fcunet_dask._places import is_url, located, place
from fcunet_dask.errors import (
    MissingDependencyError,
    OtherRunError,
    ParameterError,
    StoreError,
    StoreInUseError,
)
from fcunet_dask.io import open_scan
from fcunet_dask.pipeline.identity import source_identity
from fcunet_dask.pipeline.run import run
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.pipeline.side_by_side import side_by_side

TABLE: Final = "survey.parquet"
AT_ONCE: Final = 2
"""Scans at once on a cluster, unless told."""


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


def survey(
    scans: Iterable[str | Path],
    out_folder: str | Path,
    *,
    settings: Settings | None = None,
    overwrite: bool = False,
    at_once: int | None = None,
    report: Callable[[Sequence[Scanned]], None] = lambda rows: None,
    **options: Any,
) -> list[Scanned]:
    """Run many scans, each on all workers.

    Results go to ``<out_folder>/<name of the scan>.zarr``, and after every scan the table
    of all of them to ``survey.parquet``. The same survey again goes on: what is done is
    not done again, what failed is tried again. Rows of other scans that the table has
    already stay in it.

    Parameters
    ----------
    scans : iterable of str or Path
        Files that `open_scan` reads.
    out_folder : str or Path
        Folder, or URL, of the results.
    settings : Settings, optional
        For every scan.
    overwrite : bool
        Whether to replace results of other settings.
    at_once : int, optional
        Scans that run side by side, so that workers need not wait while another begins or
        ends; each takes memory of this process. By default two on a Dask cluster, and
        one where this process computes.
    report : callable
        Called with all rows whenever one changes; by one thread at a time.
    **options
        As `open_scan` takes them.

    Returns
    -------
    list of Scanned
        One a scan, in their order; those that failed say why. A scan that is named twice
        is one.

    Raises
    ------
    ParameterError
        If there are no scans, or they are one string; or `at_once` is no number of them.
    MissingDependencyError
        If pyarrow is not installed.
    StoreError
        If the table is damaged, or cannot be written.
    """
    _pyarrow()
    if isinstance(scans, str | Path):
        msg = f"scans must be a list of paths, got one: pass [{str(scans)!r}]"
        raise ParameterError(msg)
    at_once = _at_once(at_once)
    paths = list(dict.fromkeys(located(s) for s in scans))
    if not paths:
        msg = "no scans: the pattern matches no file"
        raise ParameterError(msg)
    folder = located(out_folder)
    table = read_table(folder)
    names = _names(paths, table, folder, options)
    outs = [f"{folder}/{name}.zarr" for name in names]
    rows = [Scanned(scan=s, out=o) for s, o in zip(paths, outs, strict=True)]

    others = [row for row in table if row.scan not in paths and row.out not in outs]

    one_at_a_time = threading.Lock()

    def note(index: int, row: Scanned) -> None:
        with one_at_a_time:
            rows[index] = row
            write_table([*rows, *others], folder)
            report(rows)

    def work(i: int) -> None:
        row = Scanned(scan=paths[i], out=outs[i])
        note(i, replace(row, state="running"))
        note(i, _run_one(row, settings or Settings(), options, overwrite=overwrite))

    side_by_side(work, len(paths), at_once)
    return rows


def _at_once(wanted: int | None) -> int:
    if wanted is None:
        return 1 if cluster_client() is None else AT_ONCE
    if wanted < 1 or (wanted > 1 and cluster_client() is None):
        msg = (
            f"at_once must be at least 1, and without a Dask cluster 1, got {wanted}: "
            "connect_cluster gives one"
        )
        raise ParameterError(msg)
    return wanted


def _run_one(
    row: Scanned, settings: Settings, options: dict[str, Any], *, overwrite: bool
) -> Scanned:
    start = time.monotonic()
    known: dict[str, Any] = {"scan": row.scan, "out": row.out}
    try:
        scan = open_scan(row.scan, calibration=settings.calibration, **options)
        try:
            results = run(scan, row.out, settings=settings)
        except OtherRunError:
            if not overwrite:
                raise
            results = run(scan, row.out, settings=settings, overwrite=True)
        known |= _figures(results)
        state, error = "done", ""
    except CancelledError:
        state, error = "pending", ""
    except StoreInUseError as reason:
        state, error = "running", str(reason)
    except Exception as reason:  # noqa: BLE001 - the others are to be run all the same
        state, error = "failed", f"{type(reason).__name__}: {reason}"
    seconds = time.monotonic() - start
    return Scanned(**known, state=state, error=error, seconds=seconds)


def _figures(results: xr.Dataset) -> dict[str, Any]:
    names = ["strain_xx", "strain_yy", "strain_xy", "rotation"]
    deviations = [f"{n}_std" for n in names[:3]]
    maps = results[[*names, *deviations, "n_indexed", "lattice_status"]].load()
    good = maps["lattice_status"].values == 0
    g1, g2 = (results[f"reference_{n}"].values[0] for n in ("g1", "g2"))
    lengths = float(np.hypot(*g1)), float(np.hypot(*g2))
    figures: dict[str, Any] = {n: _over(np.median, maps[n], good) for n in names}
    figures |= {f"spread_{n[-2:]}": _over(np.std, maps[n], good) for n in names[:3]}
    return figures | {
        "rows": good.shape[0],
        "columns": good.shape[1],
        "fitted": float(good.mean()),
        "disks": _over(np.mean, maps["n_indexed"], good),
        "radius": float(results.attrs["provenance"]["probe"]["radius"]),
        "g1": lengths[0],
        "g2": lengths[1],
        "angle": float(np.degrees(np.arccos(g1 @ g2 / (lengths[0] * lengths[1])))),
        "units": str(results["g1"].attrs.get("units", "px")),
        "sigma": float(np.mean([_over(np.median, maps[n], good) for n in deviations])),
    }


def _over(function: Callable[..., Any], values: xr.DataArray, good: Any) -> float:
    return float(function(values.values[good])) if good.any() else float("nan")


def _names(
    paths: list[str], table: list[Scanned], folder: str, options: dict[str, Any]
) -> list[str]:
    """Return a name for the results of each scan: that which it has, where it has one.

    A new scan is called as its file, with a hash of its path where another new one is
    called so, too, or the name is that of others.
    """
    known = {row.scan: row for row in table}
    new = Counter(Path(p).stem for p in {*paths} - {*known})

    def free(name: str, path: str) -> bool:
        same = _same_source(f"{folder}/{name}.zarr", path, options)
        others = [r for r in table if Path(r.out).stem == name and r.scan != path]
        return same is not False and not any(
            _holds(row, same=same, asked=row.scan in paths) for row in others
        )

    def name(path: str) -> str:
        row, stem = known.get(path), Path(path).stem
        if row and (row.state != "failed" or _its_own(row, options)):
            return Path(row.out).stem
        if new[stem] == 1 and free(stem, path):
            return stem
        return f"{stem}-{blake2b(path.encode(), digest_size=3).hexdigest()}"

    return [name(path) for path in paths]


def _holds(row: Scanned, *, same: bool | None, asked: bool) -> bool:
    """Whether a name stays that of `row`; `same`: results there are of who asks for it.

    A scan that is away may come back: its results are another's only if that is the same
    scan, moved. One that failed and left nothing holds a name as long as it is there.
    """
    there = is_url(row.scan) or Path(row.scan).exists()
    if row.state == "failed":
        return there and not same
    return there or asked or not same


def _its_own(row: Scanned, options: dict[str, Any]) -> bool:
    """Whether what is at the place of a scan that failed is not another's."""
    store = _store(row.out)
    if store is None or store.attrs.get("source", {}).get("path") == row.scan:
        return True
    return _same_source(row.out, row.scan, options) is not False


def _same_source(out: str, path: str, options: dict[str, Any]) -> bool | None:
    """Whether the results at `out` are of the scan at `path`; None if there are none."""
    store = _store(out)
    if store is None:
        return None
    try:
        source = source_identity(open_scan(path, **options))
    except Exception:  # noqa: BLE001 - to be said where the scan is run
        return False
    return bool(store.fingerprint.get("source") == json.loads(json.dumps(source)))


def _store(out: str) -> BlockStore | None:
    try:
        return BlockStore(out)
    except StoreError:
        return None


def write_table(rows: Sequence[Scanned], folder: str) -> None:
    """Put the table in place at once."""
    pyarrow, parquet = _pyarrow()
    buffer = BytesIO()
    parquet.write_table(
        pyarrow.Table.from_pylist([asdict(row) for row in rows]), buffer
    )
    with writing(folder, buffer.tell()):
        place(folder).write(TABLE, buffer.getvalue())


def read_table(folder: str) -> list[Scanned]:
    """Return the rows of the table; none where there is none yet."""
    where, (_, parquet) = place(folder), _pyarrow()
    if where.stamp(TABLE) is None:
        return []
    try:
        rows = parquet.read_table(BytesIO(where.read(TABLE))).to_pylist()
        return [Scanned(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        msg = f"{folder}/{TABLE} is no table of a survey ({error}): move it away"
        raise StoreError(msg) from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        msg = "the table of a survey needs pyarrow: pip install 'fcunet-dask[survey]'"
        raise MissingDependencyError(msg) from error
    return pyarrow, parquet
