"""Figures beside results: where they go, and that nobody else's is lost to them."""

from pathlib import Path
from typing import Final

import xarray as xr

from fcunet_dask._places import is_url
from fcunet_dask.errors import StoreError

_SOFTWARE: Final = "fcunet-dask"
"""What a figure says of itself in the PNG chunk that is there for it."""


def picture_path(out: str | Path) -> Path:
    """Return where the figure of results goes: beside them, ``.png`` for ``.zarr``.

    The figure of results in an object store goes into the current folder.
    """
    folder = Path() if is_url(out) else Path(out).parent
    return folder / f"{Path(out).name.removesuffix('.zarr')}.png"


def refuse_others(path: Path, remedy: str) -> None:
    """Refuse to write a figure over a file that is none of ours.

    Raises
    ------
    StoreError
        If there is one at `path`; `remedy` says what else can be done than move it.
    """
    if path.exists() and not _ours(path):
        msg = (
            f"the figure would overwrite {path}, which is no figure of results: move it "
            f"away, or {remedy}"
        )
        raise StoreError(msg)


def draw(results: xr.Dataset, out: str | Path) -> Path:
    """Save the figure that judges a run beside its results; return its path."""
    from fcunet_dask.plot import summary  # noqa: PLC0415 - matplotlib is slow to import

    path = picture_path(out)
    summary(results).savefig(path, dpi=110, metadata={"Software": _SOFTWARE})
    return path


def _ours(path: Path) -> bool:
    """Whether the first chunks of a PNG say that a run has drawn it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f"tEXtSoftware\0{_SOFTWARE}".encode() in file.read(200)
