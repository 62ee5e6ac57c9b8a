"""Many scans in one go: one table, and no scan's failure is another's."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask._bands import cluster_client, lost_cluster
from fcunet_dask._commit import BlockStore
from fcunet_dask._places import is_url, located
from fcunet_dask.errors import (
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
from fcunet_dask.pipeline.survey_table import (
    Scanned,
    pyarrow_parquet,
    update_table,
)

AT_ONCE: Final = 2
"""Scans at once on a cluster, unless told."""


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
    ComputeError
        If the cluster is lost; scans that are not done are ``pending`` in the table.
    """
    pyarrow_parquet()
    if isinstance(scans, str | Path):
        msg = f"scans must be a list of paths, got one: pass [{str(scans)!r}]"
        raise ParameterError(msg)
    at_once = _at_once(at_once)
    paths = list(dict.fromkeys(located(s) for s in scans))
    if not paths:
        msg = "no scans: the pattern matches no file"
        raise ParameterError(msg)
    folder, client = located(out_folder), cluster_client()
    rows = _begun(paths, folder, options)
    one_at_a_time = threading.Lock()

    def note(index: int, row: Scanned) -> None:
        with one_at_a_time:
            rows[index] = row
            update_table(folder, lambda table: _noted(table, rows, [row]))
            report(rows)

    def work(i: int) -> None:
        _expect_cluster(client)
        row = Scanned(scan=rows[i].scan, out=rows[i].out)
        note(i, replace(row, state="running"))
        try:
            ended = _run_one(
                row, settings or Settings(), options, client, overwrite=overwrite
            )
        except BaseException:
            note(i, row)
            raise
        note(i, ended)

    side_by_side(work, len(paths), at_once)
    return rows


def _begun(paths: list[str], folder: str, options: dict[str, Any]) -> list[Scanned]:
    """Return the rows of a survey that begins; others see at once which names it has."""
    rows: list[Scanned] = []

    def with_these(table: list[Scanned]) -> list[Scanned]:
        names = _names(paths, table, folder, options)
        pairs = zip(paths, names, strict=True)
        rows[:] = [Scanned(scan=p, out=f"{folder}/{n}.zarr") for p, n in pairs]
        return _noted(table, rows, rows)

    update_table(folder, with_these)
    return rows


def _noted(
    table: list[Scanned], rows: Sequence[Scanned], changed: Sequence[Scanned]
) -> list[Scanned]:
    """Return the table with changed rows of a survey; all others as they are there."""
    there = {row.scan: row for row in (*table, *changed)}
    own = {row.scan: there.get(row.scan, row) for row in rows}
    outs = {row.out for row in rows}
    others = [row for row in table if row.scan not in own and row.out not in outs]
    return [*own.values(), *others]


def _expect_cluster(client: Any) -> None:
    """Refuse to go on where the cluster that a survey began on is not there any more."""
    if client is None or (client.status == "running" and cluster_client() is client):
        return
    raise lost_cluster()


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
    row: Scanned,
    settings: Settings,
    options: dict[str, Any],
    client: Any,
    *,
    overwrite: bool,
) -> Scanned:
    start = time.monotonic()
    known: dict[str, Any] = {"scan": row.scan, "out": row.out}
    try:
        kept = options | _finished_blocks(row.out) if options.get("blocks") else options
        scan = open_scan(row.scan, calibration=settings.calibration, **kept)
        try:
            results = run(scan, row.out, settings=settings)
        except OtherRunError:
            if not overwrite:
                raise
            results = run(scan, row.out, settings=settings, overwrite=True)
        known |= _figures(results)
        state, error = "done", ""
    except CancelledError as reason:
        raise lost_cluster() from reason
    except StoreInUseError as reason:
        state, error = "running", str(reason)
    except Exception as reason:  # noqa: BLE001 - the others are to be run all the same
        _expect_cluster(client)
        state, error = "failed", f"{type(reason).__name__}: {reason}"
    seconds = time.monotonic() - start
    return Scanned(**known, state=state, error=error, seconds=seconds)


def _finished_blocks(out: str) -> dict[str, Any]:
    """Return the blocks of results that are whole, which others would ask for anew."""
    try:
        store = BlockStore(out)
        return {"blocks": store.block} if store.complete else {}
    except StoreError:
        return {}


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
