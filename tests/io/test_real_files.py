"""Files of real instruments, compared with their bytes, names and descriptions.

They are not part of the repository; FCUNET_DATA says where they lie.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from fcunet_dask.errors import ReaderError
from fcunet_dask.io import convert, open_scan

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FCUNET_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.usefixtures("files_left_open_are_closed")


def file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    if path.suffix not in (".npy", ".npz"):
        pytest.importorskip("rsciio")
        pytest.importorskip("hdf5plugin")
    return path


def known(scan):
    calibration = scan.attrs["calibration"]
    return {name: value for name, value in calibration.items() if value}


# shape and dtype from names, headers and descriptions; sizes in 1/Å, nm, kV
UNCOMPRESSED = {
    "ba50_nbd/dd020.dm3": ((1, 1, 256, 256), "int32", {}),
    "ba50_nbd/ccd_512.npy": ((1, 1, 512, 512), "int32", {}),
    "io_formats/001_4x2_6bit.mib": ((2, 4, 256, 256), "uint8", {}),
    "io_formats/002_4x2_6bit_roi128.mib": ((2, 4, 128, 256), "uint8", {}),
    "io_formats/Quad_1_Frame_CounterDepth_12_Rows_256.mib": (
        (1, 1, 512, 512),
        "uint16",
        {},
    ),
    "io_formats/Single_9_Frame_CounterDepth_12_Rows_256.mib": (
        (1, 9, 256, 256),
        "uint16",
        {},
    ),
    "mib2hspy_merlin_probe/test_CL30cm.mib": ((1, 1, 256, 256), "uint32", {}),
    "io_formats/16x16-diffraction_imagel_5x5x256x256_EDS_2.ser": (
        (5, 5, 256, 256),
        "int32",
        {"scan_step": 1.8739},
    ),
    "io_formats/map4x4.xml": (
        (4, 4, 128, 128),
        "float32",
        {"q_step": 0.4290657e-3 / 0.0196875, "scan_step": 1141.586, "voltage": 300.0},
    ),
    "io_formats/stack_images.xml": ((1, 10, 128, 128), "float32", {}),
    "io_formats/ROI_Random_Scan_movie.mrc": ((1, 348, 16, 16), "uint16", {}),
    "io_formats/test1.blo": ((3, 2, 144, 144), "uint8", {"scan_step": 12.8}),
    "io_formats/test_tvips_2233_000.tvips": (
        (1, 4, 3, 3),
        "uint16",
        {"q_step": 0.1, "voltage": 200.0},
    ),
    "io_formats/test_tvips_2345_000.tvips": (
        (1, 6, 4, 5),
        "uint16",
        {"q_step": 0.1, "voltage": 200.0},
    ),
    "io_formats/test_tvips_2345_split_000.tvips": (
        (1, 6, 4, 5),
        "uint16",
        {"q_step": 0.1, "voltage": 200.0},
    ),
    "io_formats/bismuth.dm3": ((1, 1, 256, 256), "int8", {}),
    "io_formats/bismuth.dm4": ((1, 1, 256, 256), "int8", {}),
    "io_formats/py4DSTEM_size2x3x4x5.h5": (
        (2, 3, 4, 5),
        "float32",
        {"q_step": 0.0442515666, "scan_step": 0.126796875},
    ),
}
BESIDE = {
    "map4x4.xml": ["scan_x4_y4.raw"],
    "stack_images.xml": ["series_x10.raw"],
    "test_tvips_2345_split_000.tvips": [
        f"test_tvips_2345_split_00{i}.tvips" for i in range(3)
    ],
}


@pytest.mark.parametrize("name", UNCOMPRESSED)
def test_patterns_are_the_bytes_of_the_file_in_their_order(name):
    path = file(name)
    shape, dtype, sizes = UNCOMPRESSED[name]
    scan = open_scan(path)
    assert scan["pattern"].shape == shape
    assert scan["pattern"].dtype == dtype
    assert known(scan) == pytest.approx(sizes, rel=1e-5)
    files = BESIDE.get(path.name, [path.name])
    content = b"".join((path.parent / f).read_bytes() for f in files)
    place = 0
    for pattern in scan["pattern"].values.reshape(-1, *shape[2:]):
        place = find_row(content, pattern[shape[2] // 2], place)
        assert place >= 0


def find_row(content, row, start):
    for candidate in (row, row.byteswap(), row[::-1], row[::-1].byteswap()):
        place = content.find(candidate.tobytes(), start)
        if place >= 0:
            return place
    return -1


DATASETS = {
    "io_formats/Si100_4D.emd": (
        "4DSTEM_simulation/data/datacubes/CBED_array_depth0001/datacube",
        (11, 11, 8, 8),
        {"q_step": 0.0184162, "scan_step": 0.5},
    ),
    "fpd_medipix_2x2/fpd_file_test.hdf5": (
        "fpd_expt/fpd_data/data",
        (2, 2, 256, 256),
        {},
    ),
    "din14970_sped_subset/subset_data.hspy": (
        "Experiments/__unnamed__/data",
        (2, 2, 256, 256),
        {"q_step": 0.01261, "scan_step": 2.0},
    ),
    "semi_experimental_GaAs110/gaas_strained.h5": (
        "counts_2e4",
        (16, 16, 256, 256),
        {},
    ),
    "io_formats/saved_multi_signal.nxs": ("entry1/rocks/data", (15, 1, 40, 40), {}),
}


@pytest.mark.parametrize("name", DATASETS)
def test_hdf5_is_what_h5py_reads(name):
    path = file(name)
    dataset, shape, sizes = DATASETS[name]
    scan = open_scan(path, dataset=dataset)
    with h5py.File(path, "r", locking=False) as h5:
        truth = h5[dataset][...].reshape(shape)
    assert known(scan) == pytest.approx(sizes, rel=1e-5)
    assert scan["pattern"].dtype.isnative
    np.testing.assert_array_equal(scan["pattern"], truth)


@pytest.mark.parametrize(
    "name", ["fpd_medipix_2x2/fpd_file_test.hdf5", "io_formats/saved_multi_signal.nxs"]
)
def test_the_only_scan_is_found(name):
    path = file(name)
    scan = open_scan(path)
    assert scan.attrs["source"]["dataset"] == DATASETS[name][0]


def test_semi_experimental_scan_has_its_counts():
    path = file("semi_experimental_GaAs110/gaas_strained.h5")
    for dataset, counts in (("counts_1e6", 1e6), ("counts_2e4", 2e4)):
        total = open_scan(path, dataset=dataset)["pattern"].sum(("q_y", "q_x"))
        assert float(total.mean()) == pytest.approx(counts, rel=0.03)


def test_low_dose_scan_has_its_counts():
    scan = open_scan(file("aamirmalik_scan32/scan_32.npz"))
    assert scan["pattern"].shape == (32, 32, 64, 64)
    total = scan["pattern"].sum(("q_y", "q_x"))
    assert float(total.mean()) == pytest.approx(300, rel=0.01)


def test_two_formats_of_one_frame_agree():
    mib = open_scan(file("mib2hspy_merlin_probe/test_CL30cm.mib"))
    hspy = open_scan(file("mib2hspy_merlin_probe/test_CL30cm.hspy"))
    # the camera stores its lowest row first, which the HyperSpy file keeps; and its
    # counts are stored in 8 bits there, which wraps them
    wrapped = mib["pattern"].values[:, :, ::-1].astype(np.uint8)
    np.testing.assert_array_equal(hspy["pattern"], wrapped)
    expected = {"q_step": 0.0041035, "voltage": 200.0}
    assert known(hspy) == pytest.approx(expected, rel=1e-4)


def test_camera_dump_and_its_decoded_copy_agree():
    raw = file("ba50_nbd/CCD Spectrum image_001.bin").read_bytes()[10:]
    truth = np.frombuffer(raw, "<i4").reshape(1, 1, 512, 512)
    scan = open_scan(file("ba50_nbd/ccd_512.npy"))
    np.testing.assert_array_equal(scan["pattern"], truth)
    with pytest.raises(ReaderError, match=r"bare numbers: save them with numpy.save"):
        open_scan(file("ba50_nbd/CCD Spectrum image_001.bin"))


def test_empad_without_its_two_last_rows():
    scan = open_scan(file("io_formats/map4x4.xml"))
    raw = np.fromfile(file("io_formats/scan_x4_y4.raw"), "<f4")
    truth = raw.reshape(4, 4, 130, 128)[:, :, :128]
    np.testing.assert_array_equal(scan["pattern"], truth)


def test_arina_frames_and_bad_pixels():
    path = file("io_formats/test_arina_master.h5")
    scan = open_scan(path, scan_shape=(4, 4))
    data = path.with_name("test_arina_data_000001.h5")
    truth = open_scan(data)["pattern"].values.reshape(4, 4, 24, 24)
    np.testing.assert_array_equal(scan["pattern"], truth)
    saturated = (truth > 1e6).any(axis=(0, 1))
    assert saturated.sum() == 4
    np.testing.assert_array_equal(scan["mask"], ~saturated)
    assert known(scan) == {"voltage": 200.0}


def test_dectris_scan_shape_comes_from_the_file_beside():
    scan = open_scan(file("io_formats/test_00_master.h5"))
    assert scan["pattern"].shape == (4, 4, 192, 192)
    assert known(scan) == {"voltage": 300.0}


def test_topspin_patterns_are_single_datasets():
    path = file("io_formats/topspin_from_file.app5")
    scan = open_scan(path)
    assert scan["pattern"].shape == (2, 5, 32, 32)
    with h5py.File(path, "r") as h5:
        group = h5["0another-fake-guid-0for-4unittesting"]
        truth = [group[f"{i}/Data"][...] for i in range(10)]
    found = scan["pattern"].values.reshape(10, 32, 32)
    np.testing.assert_array_equal(found, truth)


def test_velox_diffraction_is_calibrated():
    path = file("io_formats/velox_ceta_diffraction.emd")
    scan = open_scan(path)
    with h5py.File(path, "r") as h5:
        (image,) = h5["Data/Image"].values()
        truth = image["Data"][:, :, 0]
    np.testing.assert_array_equal(scan["pattern"][0, 0], truth)
    assert known(scan) == pytest.approx({"q_step": 0.0114430}, rel=1e-4)


def test_tia_header_knows_the_pixels_of_the_detector():
    scan = open_scan(file("io_formats/16x16-diffraction_imagel_5x5x256x256_EDS.emi"))
    expected = {"q_step": 0.0174353, "scan_step": 1.8739}
    assert known(scan) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mustem_F20_Si110_PACBED/F20_Si110_PACBED.tif", 618),
        ("pyxem_demos_calibration/au_xgrating_20cm.tif", 256),
        ("pyxem_demos_calibration/moo3_20cm.tif", 256),
        ("pyxem_demos_calibration/au_xgrating_100kX.hspy", 254),
    ],
)
def test_single_pictures_are_scans_of_one(name, side):
    scan = open_scan(file(name))
    assert scan["pattern"].shape == (1, 1, side, side)
    assert scan["pattern"].dtype == np.float32


def test_frames_are_wrapped_into_rows():
    path = file("io_formats/test_tvips_2345_000.tvips")
    scan = open_scan(path, scan_shape=(2, 3))
    assert scan["pattern"].shape == (2, 3, 4, 5)
    row = open_scan(path)["pattern"].values[0]
    np.testing.assert_array_equal(scan["pattern"][1, 2], row[5])
    with pytest.raises(ReaderError, match=r"a scan of \(6,\).*scan_shape=\(2, 2\)"):
        open_scan(path, scan_shape=(2, 2))


REFUSED = {
    "autodisk_PdPt_figures/recovered_128.npz": "avg_sqrt8bit.*pass dataset=",
    "semi_experimental_GaAs110/gaas_strained.h5": "counts_1e6.*counts_2e4",
    "io_formats/Si100_4D.emd": "2 datasets.*depth0000.*depth0001",
    "io_formats/001_4x2_6bit.hdr": r"header of a \.mib",
    "io_formats/Quad_1_Frame_CounterDepth_1_Rows_256RAW.mib": "RAW MIB",
    "io_formats/test_12bit_RAW_1frame.mib": "RAW MIB",
    "io_formats/EMPAD_v1.2.2_x32_y64_size0.8.xml": "'scan_x32_y64.raw'.*copy it too",
    "io_formats/map128x128_version1.2.0.xml": "'scan_x128_y128.raw'.*copy it too",
    "io_formats/test.seq.Config.Metadata.xml": "refuses it",
    "io_formats/scan_x4_y4.raw": r"open the \.xml",
    "io_formats/Movie_00785_Top_13-49-04.160.seq": "convert it",
    "io_formats/test.seq": "convert it",
    "io_formats/test.seq.dark.mrc": "promises .* holds 132,096",
    "io_formats/test.seq.gain.mrc": "promises .* holds 132,096",
    "io_formats/test.seq.metadata": "no reader",
    "io_formats/ROI_Random_Scan_scan_coordinates.csv": "no reader",
    "io_formats/ROI_Random_Scan_info.txt": "no reader",
    "io_formats/HAADFscan.mrc": "nm are those of an image",
    "io_formats/velox_camera_1532.emd": "nm are those of an image",
    "io_formats/panta_rhei_sample.prz": "are those of an image",
    "io_formats/dmTest_3D_int16_64,65,66.dm3": "pm are those of an image",
    "io_formats/dmTest_3D_int16_64,65,66.dm4": "pm are those of an image",
    "io_formats/nexus_dls_example.nxs": "no dataset has four axes",
    "io_formats/test_00.h5": "no dataset has four axes",
    "io_formats/test_tvips_2345_split_001.tvips": "starting with part 000",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_scan_is_refused_with_reason_and_remedy(name):
    path = file(name)
    with pytest.raises(ReaderError, match=REFUSED[name]) as error:
        open_scan(path)
    assert path.name in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "io_formats/001_4x2_6bit.mib",
        "io_formats/test1.blo",
        "io_formats/map4x4.xml",
        "io_formats/16x16-diffraction_imagel_5x5x256x256_EDS.emi",
        "fpd_medipix_2x2/fpd_file_test.hdf5",
        "io_formats/test_arina_master.h5",
        "aamirmalik_scan32/scan_32.npz",
        "ba50_nbd/dd020.dm3",
    ],
)
def test_conversion_keeps_every_count(name, tmp_path):
    path = file(name)
    before = open_scan(path)
    after = open_scan(convert(path, tmp_path / "out.zarr"))
    np.testing.assert_array_equal(after["pattern"], before["pattern"])
    assert after["pattern"].dtype == before["pattern"].dtype
    assert after.attrs["calibration"] == before.attrs["calibration"]
    assert set(after.variables) == set(before.variables)
