"""Where commands compute: the words behind ``--cluster``, ``--workers``, ``--blocks``."""

import logging
import re
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from fcunet_dask._bands import lost_cluster
from fcunet_dask.cli.screen import console
from fcunet_dask.errors import ComputeError, FcunetError

Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        envvar="FCUNET_CLUSTER",
        help="Where to compute: none (this process), local (worker processes), cuda, "
        "slurm, kubernetes, or the address or scheduler file of a Dask cluster; its "
        "options follow after commas: slurm,jobs=2,account=m1234.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        help="Worker processes on this machine; of another cluster, how many to wait "
        "for. 0: one a core; one.",
    ),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        help="ROWS,COLUMNS of patterns that a task takes at a time; by default about "
        "32 MiB. Smaller ones need less memory; an interrupted run goes on in the same.",
    ),
]
HERE: Final = {"local", "cuda"}
PATIENCE_S: Final = 600


@contextmanager
def computing(cluster: str, workers: int) -> Iterator[Any]:
    """Compute on a cluster for as long as the block lasts.

    Parameters
    ----------
    cluster : str
        ``none``, or what `fcunet_dask.connect_cluster` knows with its options behind
        commas. ``none`` with workers is ``local``.
    workers : int
        As `Workers` says.

    Yields
    ------
    distributed.Client or None
        None is this process alone. A cluster that was started for the block ends with
        it; one that was there before goes on.

    Raises
    ------
    ParameterError, MissingDependencyError
        If there is no such cluster.
    ComputeError
        If its workers do not come, or its scheduler is lost.
    """
    where, options = _parsed(cluster)
    if where == "none" and not workers:
        yield None
        return
    from fcunet_dask.cluster import connect_cluster  # noqa: PLC0415 - slow to start

    where = "local" if where == "none" else where
    if where in HERE and workers:
        options["n_workers"] = workers
    client = connect_cluster(where, **options)
    with _closed_at_the_end(client):
        try:
            if where not in HERE:
                _await(client, max(workers, 1))
            yield client
        except FcunetError:
            raise
        except Exception as error:
            if isinstance(error, CancelledError) or client.status != "running":
                raise lost_cluster() from error
            raise


@contextmanager
def _closed_at_the_end(client: Any) -> Iterator[None]:
    """Close a client, and a cluster that it started; what they log is said as an error."""
    log, started = logging.getLogger("distributed.client"), client.cluster
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.close()
        if started is not None:
            started.close()
        log.setLevel(level)


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Take ``NAME,OPTION=VALUE,…`` apart; values are numbers, truths or words."""
    where, *rest = text.split(",")
    pairs = [word.partition("=") for word in rest]
    wrong = [name for name, _, value in pairs if not name or not value]
    if wrong:
        msg = f"--cluster: expected NAME,OPTION=VALUE,… got {text!r}"
        raise typer.BadParameter(msg)
    if where == "none" and pairs:
        msg = f"--cluster: none has no options, got {text!r}"
        raise typer.BadParameter(msg)
    return where, {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> int | float | bool | str:
    """Return a number, a truth or the text; 10:00:00 and 007 are no numbers."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?(0|[1-9][0-9]*)", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]+\.[0-9]*", text):
        return float(text)
    return text


def _await(client: Any, number: int) -> None:
    """Wait for workers, and say where they are."""
    try:
        client.wait_for_workers(number, timeout=PATIENCE_S)
    except TimeoutError as error:
        came = len(client.nthreads())
        msg = f"--cluster: {came} of {number} workers came within {PATIENCE_S} s"
        raise ComputeError(msg) from error
    places = " ".join(sorted(client.nthreads()))
    console.print(
        f"scheduler {client.scheduler.address}\nworkers {places}",
        highlight=False,
        soft_wrap=True,
    )
