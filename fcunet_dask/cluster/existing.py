"""A cluster that runs already."""

import json
from pathlib import Path
from typing import Any

from fcunet_dask.cluster.security import read_certificates, tls_is_configured
from fcunet_dask.errors import ParameterError


def existing_cluster(
    where: str, *, certificates: str | Path | None = None, **options: Any
) -> Any:
    """Connect to the scheduler at an address, or of a scheduler file.

    Parameters
    ----------
    where : str
        ``tls://host:port``, ``tcp://host:port`` or the path of a scheduler file.
    certificates : str or Path, optional
        Folder of the cluster's certificates; otherwise Dask's configuration, which
        DASK_CONFIG names, tells them.
    **options
        Passed to `distributed.Client`: ``timeout``, ``name``, ….

    Returns
    -------
    distributed.Client

    Raises
    ------
    ParameterError
        If there is no such file, or it is no scheduler's; no certificates, or no
        scheduler that answers.
    """
    from distributed import Client  # noqa: PLC0415 - heavy

    if certificates is not None:
        options["security"] = read_certificates(certificates)
    if "://" in where:
        options["address"] = where
    elif Path(where).is_file():
        options["scheduler_file"] = where
    else:
        msg = f"{where}: no such scheduler file; has the scheduler been started?"
        raise ParameterError(msg)
    address = where if "://" in where else _address(where)
    if address.startswith("tls://") and "security" not in options:
        _expect_configured(where)
    try:
        return Client(**options)
    except OSError as error:
        msg = (
            f"{where}: no scheduler answers ({error}); it has ended, is on another "
            "network, or has other certificates"
        )
        raise ParameterError(msg) from error


def _address(scheduler_file: str) -> str:
    try:
        return str(json.loads(Path(scheduler_file).read_text())["address"])
    except (ValueError, KeyError, TypeError) as error:
        msg = (
            f"{scheduler_file}: no scheduler file, or not yet a whole one ({error!r}); "
            "has the scheduler started?"
        )
        raise ParameterError(msg) from error


def _expect_configured(where: str) -> None:
    if not tls_is_configured():
        msg = (
            f"{where}: a scheduler with TLS needs certificates: pass "
            "certificates=FOLDER, or start Python with DASK_CONFIG=FOLDER"
        )
        raise ParameterError(msg)
