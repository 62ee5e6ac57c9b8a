"""Files of strangers are data: nothing in them is run, and they write nothing."""

import io
import json
import os
import pickle
import zipfile

import fcunet_dask as fcu
import numpy as np
import pytest
import zarr


class Attack:
    """Makes a file wherever it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_the_attack_would_work(tmp_path):
    pickle.loads(pickle.dumps(Attack(tmp_path / "owned")))
    assert (tmp_path / "owned").exists()


def objects(target):
    return np.array([[[[Attack(target)]]]], dtype=object)


def npy(path, target):
    np.save(path / "a.npy", objects(target), allow_pickle=True)
    return path / "a.npy"


def npz(path, target):
    np.savez(path / "a.npz", scan=objects(target))
    return path / "a.npz"


def zarr_v2(codec):
    def make(path, target):
        group = zarr.open_group(path / "a.zarr", mode="w", zarr_format=2)
        options = {"dtype": "u2", "compressors": None, "filters": None}
        array = group.create_array(
            "a", shape=(2, 2, 8, 8), chunks=(2, 2, 8, 8), **options
        )
        array[:] = 1
        folder = path / "a.zarr" / "a"
        metadata = json.loads((folder / ".zarray").read_text())
        (folder / ".zarray").write_text(json.dumps(metadata | codec))
        (folder / "0.0.0.0").write_bytes(pickle.dumps(Attack(target)))
        return path / "a.zarr"

    return make


PICKLE = {"id": "pickle", "protocol": 4}


@pytest.mark.parametrize(
    "make",
    [npy, npz, zarr_v2({"filters": [PICKLE]}), zarr_v2({"compressor": PICKLE})],
    ids=["npy", "npz", "zarr filter", "zarr compressor"],
)
def test_nothing_is_unpickled(make, tmp_path):
    file = make(tmp_path, tmp_path / "owned")
    with pytest.raises((fcu.FcunetError, ValueError)):
        fcu.open_scan(file).pattern.values.sum()
    assert not (tmp_path / "owned").exists()


def test_names_in_an_archive_are_not_paths(tmp_path):
    counts = io.BytesIO()
    np.save(counts, np.ones((2, 2, 8, 8), np.uint16))
    folder = tmp_path / "folder"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("../outside.npy", counts.getvalue())
    scan = fcu.open_scan(folder / "a.npz")
    assert scan.pattern.values.sum() == 256
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "a.npz"]
