"""A DaskCluster of the Dask operator, through kubectl.

The operator's own Python client speaks plain TCP to the scheduler only; kubectl's port
forwarding does not mind TLS.
"""

import re
import shutil
import subprocess
import weakref
from pathlib import Path
from typing import Any

from fcunet_dask.cluster.existing import existing_cluster
from fcunet_dask.cluster.recipes import read_recipe, recipe_path
from fcunet_dask.errors import MissingDependencyError, ParameterError


def kubernetes_cluster(
    recipe: str | Path = "cpu",
    *,
    certificates: str | Path,
    workers: int | None = None,
    namespace: str | None = None,
    timeout: int = 600,
) -> Any:
    """Apply a DaskCluster and connect to its scheduler from outside.

    The cluster stays when the client closes: ``kubectl delete daskcluster NAME``.

    Parameters
    ----------
    recipe : str or Path
        ``cpu`` or ``gpu`` of ``deploy/kubernetes``, or a manifest of one DaskCluster.
    certificates : str or Path
        Folder of ``deploy/make_certificates``; the namespace has it as the secret that
        the manifest mounts.
    workers : int, optional
        How many instead of the manifest's.
    namespace : str, optional
        Instead of kubectl's current one.
    timeout : int
        Seconds to wait for the scheduler.

    Returns
    -------
    distributed.Client

    Raises
    ------
    MissingDependencyError
        If kubectl is not installed.
    ParameterError
        If there is no such recipe, or kubectl refuses; its words are passed on.
    """
    if shutil.which("kubectl") is None:
        msg = "there is no kubectl here: install it and point it at the cluster"
        raise MissingDependencyError(msg)
    if recipe in {"cpu", "gpu"}:
        recipe = f"kubernetes/cluster-{recipe}.yaml"
    name = read_recipe(recipe)["metadata"]["name"]
    kubectl = ["kubectl", *([f"--namespace={namespace}"] if namespace else [])]
    _call([*kubectl, "apply", f"--filename={recipe_path(recipe)}"])
    if workers is not None:
        patch = f'{{"spec": {{"worker": {{"replicas": {workers}}}}}}}'
        _call([*kubectl, "patch", "daskcluster", name, "--type=merge", "-p", patch])
    pods = f"--selector=dask.org/cluster-name={name},dask.org/component=scheduler"
    for condition in ("create", "condition=Ready"):
        wait = ["wait", "pod", pods, f"--for={condition}", f"--timeout={timeout}s"]
        _call([*kubectl, *wait])
    forward, port = _forward([*kubectl, "port-forward", f"service/{name}-scheduler"])
    client = existing_cluster(f"tls://127.0.0.1:{port}", certificates=certificates)
    weakref.finalize(client, _stop, forward)
    return client


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(command)}: {done.stderr.strip()}"
        raise ParameterError(msg)


def _forward(command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Forward a free local port to the scheduler's; return the process and the port."""
    process = subprocess.Popen(
        [*command, ":8786"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline() if process.stdout else ""
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        msg = f"{' '.join(command)}: {_stop(process)}"
        raise ParameterError(msg)
    return process, int(found.group(1))


def _stop(process: subprocess.Popen[str]) -> str:
    """End a process; return what it complained of."""
    process.terminate()
    return process.communicate()[1].strip()
