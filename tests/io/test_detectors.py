"""Files of cameras, made here: headers are small, and a truncated file is refused."""

import pickle
import struct

import numpy as np
import pytest
from fcunet_dask._source import source_of
from fcunet_dask.calibration import Calibration, electron_wavelength
from fcunet_dask.errors import ReaderError
from fcunet_dask.io import convert, open_scan

pytest.importorskip("rsciio")
pytestmark = pytest.mark.usefixtures("files_left_open_are_closed")

SHAPE = (3, 5, 64, 64)
TRUTH = np.random.default_rng(0).poisson(3, SHAPE)


def write_mib(path):
    """Merlin frames: 384 bytes of header and big-endian counts each."""
    zeros = ",".join(["0.000000E+0"] * 6)
    dacs = ",".join(["000"] * 27)
    header = (
        "MQ1,{:06d},00384,01,0064,0064,U16,   1x1,01,2026-01-01 00:00:00.000000,"
        f"0.001000,0,0,0,2.000000E+1,5.110000E+2,{zeros},3RX,{dacs},MQ1A,"
        "2026-01-01T00:00:00.000000000Z,1000000ns,12,"
    )
    with path.open("wb") as file:
        for i, frame in enumerate(TRUTH.reshape(-1, 64, 64), start=1):
            file.write(header.format(i).encode().ljust(384, b"\0"))
            file.write(frame[::-1].astype(">u2").tobytes())
    return path


def write_empad(path):
    """130 rows of floats, of which the last two are no data; a header in XML."""
    raw = np.pad(TRUTH[:, :, :, :64], ((0, 0), (0, 0), (0, 66), (0, 64)))
    raw.astype("<f4").tofile(path.with_name("scan_x5_y3.raw"))
    path.write_text(
        """<root name="scan"><timestamp isoformat="2026-01-01T00:00:00.0"/>
<software_version>0.51</software_version><type>scan</type>
<pix_x>5</pix_x><pix_y>3</pix_y><raw_file filename="scan_x5_y3.raw"/>
<exposure_time>1</exposure_time>
<scan_parameters mode="acquire"><scan_size>0.5</scan_size></scan_parameters>
<iom_measurements>
<source.get_voltage>200000.0</source.get_voltage>
<optics.get_full_scan_field_of_view>[1e-6, 1e-6]</optics.get_full_scan_field_of_view>
<calibrated_diffraction_angle>0.0005</calibrated_diffraction_angle>
<calibrated_pixelsize>4e-11</calibrated_pixelsize>
</iom_measurements></root>
"""
    )
    return path


def axis(name, size, scale, units, navigate, index):
    return {
        "name": name,
        "size": size,
        "scale": scale,
        "offset": 0.0,
        "units": units,
        "navigate": navigate,
        "index_in_array": index,
    }


def write_blo(path):
    blockfile = pytest.importorskip("rsciio.blockfile")
    axes = [
        axis("y", 3, 12.0, "nm", True, 0),
        axis("x", 5, 12.0, "nm", True, 1),
        axis("dy", 64, 0.01, "cm", False, 2),
        axis("dx", 64, 0.01, "cm", False, 3),
    ]
    signal = {
        "data": TRUTH.astype(np.uint8),
        "axes": axes,
        "metadata": {},
        "original_metadata": {},
        "attributes": {"_lazy": False},
    }
    blockfile.file_writer(str(path), signal, intensity_scaling=None)
    return path


def test_mib_frames_are_wrapped_and_swapped(tmp_path):
    path = write_mib(tmp_path / "a.mib")
    scan = open_scan(path, scan_shape=(3, 5))
    np.testing.assert_array_equal(scan["pattern"], TRUTH)
    assert scan["pattern"].dtype == np.uint16
    assert scan["pattern"].dtype.isnative
    assert open_scan(path)["pattern"].shape == (1, 15, 64, 64)


def test_blo_is_calibrated(tmp_path):
    scan = open_scan(write_blo(tmp_path / "a.blo"))
    np.testing.assert_array_equal(scan["pattern"], TRUTH)
    found = Calibration.from_dict(scan.attrs["calibration"])
    assert found.scan_step == pytest.approx(12.0)
    assert found.q_step is None


def test_empad_is_read_without_its_last_rows(tmp_path):
    scan = open_scan(write_empad(tmp_path / "a.xml"))
    assert scan["pattern"].shape == (3, 5, 128, 128)
    np.testing.assert_array_equal(scan["pattern"][:, :, :64, :64], TRUTH)
    found = Calibration.from_dict(scan.attrs["calibration"])
    assert found.voltage == 200.0
    assert found.q_step == pytest.approx(0.5e-3 / electron_wavelength(200.0))
    raw = tmp_path / "scan_x5_y3.raw"
    with raw.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ReaderError, match="holds 1,000 bytes, 998,400 are needed"):
        open_scan(tmp_path / "a.xml")
    raw.unlink()
    with pytest.raises(ReaderError, match="not beside it; copy it too"):
        open_scan(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("write", "name"),
    [(write_mib, "a.mib"), (write_blo, "a.blo"), (write_empad, "a.xml")],
    ids=["mib", "blo", "empad"],
)
def test_workers_open_the_file_themselves(tmp_path, write, name):
    pattern = open_scan(write(tmp_path / name), blocks=(1, 2))["pattern"]
    source = source_of(pattern.data)
    assert len(pickle.dumps(source)) - len(source.path) < 300
    total = pattern.data.sum().compute(scheduler="processes", num_workers=1)
    assert total == TRUTH.sum()


def test_mib_is_converted(tmp_path):
    path = write_mib(tmp_path / "a.mib")
    out = convert(path, tmp_path / "a.zarr", scan_shape=(3, 5))
    np.testing.assert_array_equal(open_scan(out)["pattern"], TRUTH)


@pytest.mark.parametrize(
    ("write", "name"), [(write_mib, "a.mib"), (write_blo, "a.blo")], ids=["mib", "blo"]
)
def test_truncated_files_are_refused(tmp_path, write, name):
    path = write(tmp_path / name)
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(ReaderError, match=rf"{name}.*") as error:
        open_scan(path, scan_shape=(3, 5))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".mib", ".dm4", ".blo", ".xml", ".ser", ".tvips"])
@pytest.mark.parametrize(
    "data", [b"", b"no camera wrote this", struct.pack("<99d", *range(99))]
)
def test_rubbish_is_refused_by_name(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    with pytest.raises(ReaderError, match=r"refuses it|promises") as error:
        open_scan(path)
    assert str(path) in str(error.value)
