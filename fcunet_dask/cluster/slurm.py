"""Workers as SLURM jobs, the scheduler where Python runs."""

import shutil
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dask import config

from fcunet_dask.cluster.recipes import read_recipe
from fcunet_dask.cluster.security import make_certificates, read_certificates
from fcunet_dask.errors import MissingDependencyError, ParameterError

RECIPES: Final = "slurm/jobqueue.yaml"


def slurm_cluster(
    recipe: str = "slurm-cpu",
    *,
    jobs: int = 1,
    certificates: str | Path | None = None,
    shared: str | Path = ".",
    **options: Any,
) -> Any:
    """Submit jobs of workers; the scheduler runs in this process.

    Parameters
    ----------
    recipe : str
        A section under ``jobqueue`` of ``deploy/slurm/jobqueue.yaml`` or of the user's
        Dask configuration.
    jobs : int
        How many to submit.
    certificates : str or Path, optional
        Folder of ``deploy/make_certificates``, on a file system that every node sees;
        otherwise new ones are made under `shared` and deleted with the cluster.
    shared : str or Path
        A folder that every node sees.
    **options
        Passed to `dask_jobqueue.SLURMCluster`, over the recipe: ``account``,
        ``walltime``, ….

    Returns
    -------
    distributed.Client

    Raises
    ------
    MissingDependencyError
        If dask-jobqueue, sbatch or openssl is not installed.
    ParameterError
        If there is no such recipe.
    """
    cluster_class = _jobqueue()
    config.update_defaults(read_recipe(RECIPES))
    section = _section(recipe)
    made = None if certificates else make_certificates(Path(shared).absolute())
    folder = Path(certificates or made or shared).absolute()
    prologue = [*section["job-script-prologue"], f"export DASK_CONFIG={folder}"]
    defaults = {
        "processes": section["processes"],  # dask-jobqueue counts workers by it
        "job_script_prologue": prologue,
        "security": read_certificates(folder),
    }
    cluster = cluster_class(config_name=recipe, **(defaults | options))
    if made is not None:
        weakref.finalize(cluster, shutil.rmtree, made, ignore_errors=True)
    cluster.scale(jobs=jobs)
    return cluster.get_client()


def _jobqueue() -> Any:
    try:
        with _own_interrupt():
            from dask_jobqueue.slurm import SLURMCluster  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = "SLURM needs dask-jobqueue: pip install 'fcunet-dask[slurm]'"
        raise MissingDependencyError(msg) from error
    if shutil.which("sbatch") is None:
        msg = "there is no sbatch here: run this on a login node of the SLURM cluster"
        raise MissingDependencyError(msg)
    return SLURMCluster


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Keep what Ctrl-C does: with dask-jobqueue it would end the process, or a kernel."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _section(recipe: str) -> dict[str, Any]:
    known = config.get("jobqueue")
    if recipe not in known or "shebang" not in known[recipe]:
        ours = ", ".join(sorted(read_recipe(RECIPES)["jobqueue"]))
        msg = f"recipe: no section jobqueue.{recipe} in Dask's configuration; {ours}"
        raise ParameterError(msg)
    section: dict[str, Any] = known[recipe]
    return section
