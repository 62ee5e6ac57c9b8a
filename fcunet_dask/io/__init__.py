"""Files to labelled, lazy, calibrated scans, and back."""

from fcunet_dask.io.convert import convert, save_scan
from fcunet_dask.io.scan import open_scan

__all__ = ["convert", "open_scan", "save_scan"]
