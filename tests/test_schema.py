"""The vocabulary is complete, and what does not speak it is told so."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import schema
from fcunet_dask.errors import SchemaError


def pattern(dims=("scan_y", "scan_x", "q_y", "q_x"), dtype="u2"):
    return xr.Dataset({"pattern": (dims, np.zeros((1, 2, 3, 4), dtype))})


def every_variable():
    return [v for v in vars(schema).values() if isinstance(v, schema.Variable)]


def test_names_are_distinct_and_described():
    names = [v.name for v in every_variable()]
    assert len(names) == len(set(names)) > 25
    assert all(v.units and v.long_name and v.dims for v in every_variable())


def test_y_is_before_x_everywhere():
    for variable in every_variable():
        for y, x in (("scan_y", "scan_x"), ("q_y", "q_x")):
            if x in variable.dims:
                assert variable.dims.index(y) == variable.dims.index(x) - 1
    assert schema.COMPONENTS == ("y", "x")
    assert schema.PAIRS == ("yy", "yx", "xx")


def test_a_valid_dataset_is_returned_unchanged():
    scan = pattern()
    assert schema.validate(scan, schema.PATTERN) is scan


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (xr.Dataset({"image": ("x", [1])}), r"no variable 'pattern'.*\['image'\]"),
        (pattern(("a", "b", "q_y", "q_x")), "dims.*expected"),
        (pattern(("scan_x", "scan_y", "q_y", "q_x")), "dims.*expected"),
        (pattern(dtype="c8"), "dtype complex64"),
        (pattern(dtype="U1"), "dtype"),
    ],
    ids=["missing", "names", "order", "complex", "text"],
)
def test_what_is_wrong_is_named(scan, words):
    with pytest.raises(SchemaError, match=words):
        schema.validate(scan, schema.PATTERN)


@pytest.mark.parametrize("other", ["scan.zarr", np.zeros((2, 2, 2, 2)), None])
def test_what_is_no_dataset_is_named(other):
    with pytest.raises(SchemaError, match=f"Dataset, got {type(other).__name__}"):
        schema.validate(other, schema.PATTERN)


def test_units_follow_those_of_q():
    q = xr.Dataset(
        {"bragg_q": (schema.BRAGG_Q.dims, np.zeros((1, 1, 1, 2)))},
    )
    annotated = schema.annotate(q, schema.BRAGG_Q, q_units="px")
    assert annotated["bragg_q"].attrs["units"] == "px"
    assert schema.q_units(annotated) == "px"
    assert schema.q_units(pattern()) == "px"
    scan = pattern().assign_coords(q_y=("q_y", [0, 1, 2], {"units": "1/Å"}))
    assert schema.q_units(scan) == "1/Å"
    # results that are computed block by block have no detector axes
    for q_step, units in ((0.02, "1/Å"), (None, "px")):
        without = pattern().assign_attrs(calibration={"q_step": q_step})
        assert schema.q_units(without) == units
