"""Scans whose direct beam is behind a stop that no mask tells of."""

import numpy as np
import pytest
from fcunet_dask import run, simulate_scan
from fcunet_dask.cli.screen import console
from fcunet_dask.cli.strain import report

Q_STEP = 0.02


@pytest.fixture(scope="module")
def scan():
    return simulate_scan(scan=(4, 10), blocks=None).drop_vars("probe")


def stopped(scan, size, off):
    """The scan, and where its beam is; pixels near to it do not read anything."""
    beam = scan["true_origin"].mean(("scan_y", "scan_x")).values
    y, x = scan["q_y"] - beam[0], scan["q_x"] - beam[1]
    away = np.hypot(y - off[0] * Q_STEP, x - off[1] * Q_STEP)
    pattern = scan["pattern"].where(away > size * Q_STEP, 0)
    return scan.assign(pattern=pattern.transpose(*scan["pattern"].dims)), beam


@pytest.mark.parametrize(("size", "off"), [(9, (0, 0)), (6, (2, 1)), (12, (3, -2))])
def test_where_a_disk_is_missing_is_said(size, off, scan, tmp_path):
    """Another disk is the brightest then; the lattice of all says where none is."""
    scan, beam = stopped(scan, size, off)
    results = run(scan, tmp_path / "out")
    said = results.attrs["provenance"]["origin"]["covered"]
    np.testing.assert_allclose(said, [beam], atol=0.1 * Q_STEP)
    with console.capture() as captured:
        report(results)
    words = " ".join(captured.get().split())
    assert f"no disk at y {said[0][0]:.4g}, x {said[0][1]:.4g} 1/Å" in words
    assert "measure_origin expected=" in words


def test_no_disk_is_missing_where_the_beam_is_seen(scan, tmp_path):
    results = run(scan, tmp_path / "out")
    assert results.attrs["provenance"]["origin"]["covered"] == []
