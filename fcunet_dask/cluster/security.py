"""TLS: who may talk to a cluster."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from dask import config

from fcunet_dask.cluster.recipes import recipe_path
from fcunet_dask.errors import MissingDependencyError, ParameterError


def read_certificates(folder: str | Path) -> Any:
    """Return the security of a cluster whose certificates are in `folder`.

    Parameters
    ----------
    folder : str or Path
        As ``deploy/make_certificates`` makes it: ``ca.pem``, ``cert.pem``, ``key.pem``.

    Returns
    -------
    distributed.Security
        With encryption required.

    Raises
    ------
    ParameterError
        If one of them is missing.
    """
    from distributed import Security  # noqa: PLC0415 - heavy

    folder = Path(folder).absolute()
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        msg = (
            f"certificates: {folder} lacks {', '.join(missing)}; make them with "
            f"deploy/make_certificates {folder}"
        )
        raise ParameterError(msg)
    roles = {
        f"tls_{role}_{part}": str(files[part])
        for role in ("scheduler", "worker", "client")
        for part in ("cert", "key")
    }
    return Security(tls_ca_file=str(files["ca"]), require_encryption=True, **roles)


def make_certificates(shared: Path) -> Path:
    """Make certificates for one cluster in a new folder under `shared`; return it.

    Raises
    ------
    MissingDependencyError
        If openssl is not installed.
    """
    if shutil.which("openssl") is None:
        msg = "TLS needs the program openssl to make certificates; install it"
        raise MissingDependencyError(msg)
    folder = Path(tempfile.mkdtemp(prefix="fcunet-tls-", dir=shared))
    script = str(recipe_path("make_certificates"))
    subprocess.run(["bash", script, str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def tls_is_configured() -> bool:
    """Whether Dask's configuration (DASK_CONFIG) names certificates."""
    return config.get("distributed.comm.tls.ca-file", None) is not None
