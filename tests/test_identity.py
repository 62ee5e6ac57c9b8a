"""A run knows its own output again, and nothing else for it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import open_scan, save_scan
from fcunet_dask.model.weights import find_weights, write_card
from fcunet_dask.pipeline import Settings
from fcunet_dask.pipeline.detect import bragg_arrays
from fcunet_dask.pipeline.identity import analysis_identity, detection_identity

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture(scope="module")
def stored(scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("identity") / "scan.zarr"
    save_scan(scan[["pattern"]], path)
    return open_scan(path)


def beam(scan, **values):
    calibration = scan.attrs.get("calibration", {})
    return scan.assign_attrs(calibration={**calibration, **values})


def test_the_same_is_the_same(stored):
    again = open_scan(stored.attrs["source"]["path"])
    assert detection_identity(again, Settings()) == detection_identity(
        stored, Settings()
    )


def masked(scan):
    mask = np.ones([scan.sizes["q_y"], scan.sizes["q_x"]], bool)
    mask[3:9, 4:40] = False
    return scan.assign(mask=(("q_y", "q_x"), mask))


def with_probe(scan):
    return scan.assign(probe=scan["pattern"][0, 0].astype(float).load())


@pytest.mark.parametrize(
    "change",
    [
        masked,
        with_probe,
        lambda scan: beam(scan, voltage=200.0),
        lambda scan: beam(scan, semiangle=2.0),
        lambda scan: scan.isel(scan_x=slice(0, 5)),
    ],
)
def test_whatever_the_disks_depend_on_makes_another_run(stored, change):
    assert detection_identity(change(stored), Settings()) != detection_identity(
        stored, Settings()
    )


def test_a_network_in_a_file_is_known_by_what_is_in_it(stored, weights, tmp_path):
    path, card = find_weights(weights)
    copy = tmp_path / "own.keras"
    copy.write_bytes(path.read_bytes())
    write_card(copy, card)
    settings = Settings(detector=str(copy))
    before = detection_identity(stored, settings)
    assert detection_identity(stored, settings) == before
    write_card(copy, replace(card, spread=2.0))
    assert detection_identity(stored, settings) != before


def test_steps_and_bounds_of_regions_count(stored):
    def of(rows):
        settings = Settings(reference=(rows, slice(None)))
        return analysis_identity(stored, settings, (4, 4))["reference"]

    assert of(slice(0, 8, 4)) != of(slice(0, 8))
    assert of(slice(np.int64(0), np.int64(8))) == of(slice(0, 8))
    assert type(of(slice(np.int64(0), 8))[0][0]) is int


def test_an_array_in_memory_is_known_by_its_values(scan):
    other = scan.copy(deep=True)
    other["pattern"] = xr.where(scan["pattern"] > 3, scan["pattern"], 0)
    assert detection_identity(other, Settings()) != detection_identity(scan, Settings())


@pytest.mark.parametrize("kind", [int, np.int64, np.float32])
def test_an_angle_is_the_same_whatever_kind_of_number_it_is(stored, kind):
    of = analysis_identity(stored, Settings(axes=kind(3)), (4, 4))
    assert json.dumps(of) == json.dumps(
        analysis_identity(stored, Settings(axes=3.0), (4, 4))
    )


def test_numbers_of_numpy_are_those_of_python(stored):
    def identity(**options):
        settings = Settings(detector_options=options)
        return json.dumps(detection_identity(stored, settings))

    numpy = identity(max_peaks=np.int64(40), gain=np.float32(1))
    assert numpy == identity(max_peaks=40, gain=1.0)
    assert numpy != identity(max_peaks=40, gain=2.0)


def test_a_number_of_peaks_of_numpy_is_kept_with_the_store(stored):
    shapes = [a.shape for a in bragg_arrays(stored, np.int64(40)).values()]
    assert json.loads(json.dumps(shapes))[0][2:] == [40, 2]
