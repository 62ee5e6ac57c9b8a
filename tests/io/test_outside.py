"""An HDF5 file may name the files beside it; nothing else is read through it."""

import h5py
import numpy as np
import pytest
from fcunet_dask import open_scan
from fcunet_dask.errors import ReaderError

SHAPE = (2, 3, 8, 8)
SECRET = np.arange(np.prod(SHAPE), dtype="u2").reshape(SHAPE) + 1000


@pytest.fixture
def folder(tmp_path):
    """A folder with a sibling; outside of it bytes, and an HDF5 file, of the user."""
    (tmp_path / "data").mkdir()
    (tmp_path / "diary").write_bytes(SECRET.tobytes())
    for file in ("private.h5", "data/sibling.h5"):
        with h5py.File(tmp_path / file, "w") as f:
            f["scan"] = SECRET
            f["group/frames"] = SECRET.reshape(-1, 8, 8)
    return tmp_path / "data"


def outside(folder, name, shape=SHAPE, dtype="u2"):
    """Return the options of a dataset whose values are the user's bytes."""
    bytes_ = int(np.prod(shape)) * np.dtype(dtype).itemsize
    external = [(str(folder.parent / name), 0, bytes_)]
    return {"shape": shape, "dtype": dtype, "external": external}


def virtual(file, source, name="scan"):
    layout = h5py.VirtualLayout(SHAPE, "u2")
    layout[...] = h5py.VirtualSource(source, name, SHAPE)
    file.create_virtual_dataset("scan", layout)


def master(path, **links):
    """Write what a Dectris detector does: frames by links."""
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        for name, (other, where) in links.items():
            group[name] = h5py.ExternalLink(other, where)
    return path


def test_values_in_another_file_are_not_read(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("scan", **outside(folder, "diary"))
        np.testing.assert_array_equal(file["scan"], SECRET)  # the attack would work
    with pytest.raises(ReaderError, match=r"a\.h5: the values of /scan lie in .*diary"):
        open_scan(folder / "a.h5")


def test_masks_and_calibrations_from_another_file_are_not_read(folder):
    path = master(folder / "a_master.h5", data_000001=("sibling.h5", "/group/frames"))
    open_scan(path)
    with h5py.File(path, "a") as file:
        file.create_dataset(
            "entry/instrument/detector/detectorSpecific/pixel_mask",
            **outside(folder, "diary", (8, 8), "u4"),
        )
    with pytest.raises(ReaderError, match=r"pixel_mask lie in .*diary"):
        open_scan(path)
    with h5py.File(folder / "b.h5", "w") as file:
        file["scan"] = SECRET
        file.create_dataset(
            "metadatabundle/calibration/Q_pixel_size",
            **outside(folder, "diary", (1,), "f8"),
        )
    with pytest.raises(ReaderError, match=r"Q_pixel_size lie in .*diary"):
        open_scan(folder / "b.h5")
    with h5py.File(folder / "c.h5", "w") as file:
        file["scan"] = SECRET
        file["metadatabundle"] = h5py.ExternalLink("../b.h5", "/metadatabundle")
    (folder / "b.h5").rename(folder.parent / "b.h5")
    with pytest.raises(ReaderError, match=r"b\.h5, outside of its folder"):
        open_scan(folder / "c.h5")


@pytest.mark.parametrize("name", ["sibling.h5", "./sibling.h5", "moved"])
def test_a_virtual_scan_from_files_beside_it_is_read(folder, name):
    """Also when it names where they were before they were moved."""
    source = "/no/such/folder/sibling.h5" if name == "moved" else name
    with h5py.File(folder / "a.h5", "w") as file:
        virtual(file, source)
    found = open_scan(folder / "a.h5").pattern
    np.testing.assert_array_equal(found.values, SECRET)
    (folder.parent / "link.h5").symlink_to(folder / "a.h5")
    found = open_scan(folder.parent / "link.h5").pattern
    np.testing.assert_array_equal(found.values, SECRET)


def test_a_virtual_scan_of_its_own_datasets_is_read(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["frames"] = SECRET[..., 0]
        file["group/part"] = SECRET
        layout = h5py.VirtualLayout(SHAPE, "u2")
        layout[...] = h5py.VirtualSource(file["group/part"])
        file.create_virtual_dataset("scan", layout)
    found = open_scan(folder / "a.h5", dataset="scan").pattern
    np.testing.assert_array_equal(found.values, SECRET)


@pytest.mark.parametrize("name", ["../private.h5", "x/../../private.h5", "absolute"])
def test_a_virtual_scan_from_elsewhere_is_refused(folder, name):
    source = str(folder.parent / "private.h5") if name == "absolute" else name
    (folder / "x").mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        virtual(file, source)
    with h5py.File(folder / "a.h5") as file:
        np.testing.assert_array_equal(file["scan"], SECRET)  # the attack would work
    with pytest.raises(ReaderError, match=r"private\.h5, outside of its folder"):
        open_scan(folder / "a.h5")


def test_what_is_beside_must_not_lead_elsewhere(folder):
    with h5py.File(folder / "b.h5", "w") as file:
        file.create_dataset("scan", **outside(folder, "diary"))
        file["frames"] = h5py.ExternalLink("../private.h5", "/group/frames")
    with h5py.File(folder / "a.h5", "w") as file:
        virtual(file, "b.h5")
    with pytest.raises(ReaderError, match=r"a\.h5: the values of /scan lie in .*diary"):
        open_scan(folder / "a.h5")
    path = master(folder / "a_master.h5", data_000001=("b.h5", "/frames"))
    with pytest.raises(ReaderError, match=r"private\.h5, outside of its folder"):
        open_scan(path)


def test_a_part_of_a_virtual_scan_that_is_missing_is_no_zeros(folder, monkeypatch):
    """Nor is it taken from the current folder, where HDF5 looks, too."""
    with h5py.File(folder / "a.h5", "w") as file:
        virtual(file, "private.h5")
    with h5py.File(folder / "b.h5", "w") as file:
        virtual(file, "sibling.h5", "nothing")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ReaderError, match=r"private\.h5, which is not beside it"):
        open_scan(folder / "a.h5")
    with pytest.raises(
        ReaderError, match=r"nothing of sibling\.h5, which is not there"
    ):
        open_scan(folder / "b.h5")


def test_sources_that_are_counted_are_refused(folder):
    endless = (h5py.h5s.UNLIMITED, *SHAPE[1:])
    space = h5py.h5s.create_simple(SHAPE, endless)
    space.select_hyperslab((0,) * 4, (endless[0], 1, 1, 1), None, (1, *SHAPE[1:]))
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    row = h5py.h5s.create_simple((1, *SHAPE[1:]))
    made.set_virtual(space, b"../private-%b.h5", b"scan", row)
    space = h5py.h5s.create_simple(SHAPE, endless)
    with h5py.File(folder / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"scan", h5py.h5t.STD_U16LE, space, dcpl=made)
    with pytest.raises(ReaderError, match="counts the sources"):
        open_scan(folder / "a.h5")


def test_frames_by_links_are_read_beside_the_master_file_only(folder):
    beside = {"data_000001": ("sibling.h5", "/group/frames")}
    path = master(folder / "a_master.h5", **beside)
    np.testing.assert_array_equal(
        open_scan(path).pattern.values.ravel(), SECRET.ravel()
    )
    other = {"data_000002": ("../private.h5", "/group/frames")}
    path = master(folder / "b_master.h5", **beside, **other)
    with pytest.raises(ReaderError, match=r"private\.h5, outside of its folder"):
        open_scan(path)


def test_files_for_another_library_have_no_links_to_others(folder):
    for name, make in {
        "link": lambda file: file.__setitem__(
            "Data/Image/1/Data", h5py.ExternalLink("../private.h5", "/scan")
        ),
        "values": lambda file: file.create_dataset(
            "Data/Image/1/Data", **outside(folder, "diary")
        ),
    }.items():
        with h5py.File(folder / f"{name}.emd", "w") as file:
            file.create_group("Data/Image")
            make(file)
    with pytest.raises(ReaderError, match=r"private\.h5, outside of its folder"):
        open_scan(folder / "link.emd")
    with pytest.raises(ReaderError, match=r"Data lie in .*diary"):
        open_scan(folder / "values.emd")
