"""Figures show what the results hold, where it is."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import plot
from fcunet_dask.plot.maps import _extent, _limit
from fcunet_dask.plot.patterns import _ellipse
from matplotlib.backends.backend_agg import FigureCanvasAgg


def drawn(figure):
    """Draw a figure as a file would have it; warnings are errors."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_strain_maps_have_four_panels_in_percent_and_degrees(results):
    figure = plot.strain_maps(results)
    assert len(titles(figure)) == 4
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), 100 * results["strain_xx"].values)
    turn = figure.axes[3].images[0]
    np.testing.assert_allclose(turn.get_array(), np.degrees(results["rotation"].values))
    assert drawn(figure).std() > 0


def test_the_scale_is_symmetric_and_common_to_the_strains(results):
    figure = plot.strain_maps(results)
    limits = [ax.images[0].get_clim() for ax in figure.axes[:3]]
    assert len(set(limits)) == 1
    assert limits[0][0] == -limits[0][1]
    fixed = plot.strain_maps(results, limit=0.03)
    assert fixed.axes[0].images[0].get_clim() == (-3.0, 3.0)


def test_rows_go_down_and_columns_right(results):
    (left, right, bottom, top), units = _extent(results)
    step = 2.0
    assert (left, right) == pytest.approx((-step / 2, 7.5 * step))
    assert (top, bottom) == pytest.approx((-step / 2, 5.5 * step))
    assert units == ("nm", "nm")


def test_positions_that_are_not_evenly_far_apart_are_counted(results):
    part = results.isel(scan_x=[0, 1, 5], scan_y=slice(None, None, 2))
    (left, right, bottom, top), units = _extent(part)
    assert (left, right, top, bottom) == (-0.5, 2.5, -2.0, 10.0)
    assert units == ("nm", "px")
    axes = plot.strain_maps(part).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (px)", "y (nm)")


def test_the_summary_shows_all_and_says_how_many(results):
    figure = plot.summary(results)
    assert len(titles(figure)) == 12
    assert "48 positions, 0 without a lattice" in figure.get_suptitle()
    drawn(figure)


def test_a_scan_without_any_lattice_can_be_drawn(results):
    nothing = results.load().copy(deep=True)
    for name, variable in nothing.data_vars.items():
        if name.startswith(("strain", "rotation", "residual", "g1", "g2")):
            variable.values[:] = np.nan
    nothing["lattice_status"].values[:] = 4
    assert _limit(nothing, "strain_xx", None) == 1.0
    drawn(plot.strain_maps(nothing))
    figure = plot.summary(nothing)
    assert "48 without a lattice" in figure.get_suptitle()
    drawn(figure)


@pytest.mark.parametrize("at", [(0, 0), (5, 7)])
def test_a_pattern_with_its_disks_and_lattice(at, scan, results):
    figure = plot.pattern(scan, results, at)
    ax = figure.axes[0]
    found = np.isfinite(results["bragg_q"].values[at][:, 0]).sum()
    assert len(ax.patches) == 2 * found
    points = np.stack(ax.lines[0].get_data(), -1)[:, ::-1]
    disks = results["bragg_q"].values[at][:found]
    away = np.hypot(*np.moveaxis(disks[:, None] - points[None], -1, 0)).min(axis=1)
    assert away.max() < 0.25 * 0.02  # crosses lie on the disks
    assert f"position {at[0]}, {at[1]}" in ax.get_title()
    drawn(figure)


def test_a_pattern_alone(scan):
    figure = plot.pattern(scan)
    assert not figure.axes[0].patches
    drawn(figure)


def test_a_pattern_of_nothing(scan):
    empty = scan.isel(scan_y=slice(1), scan_x=slice(1)).copy(deep=True)
    empty["pattern"].values[:] = 0
    drawn(plot.pattern(empty))


def test_error_ellipses_point_where_the_error_is():

    steep = _ellipse(np.zeros(2), np.array([[4.0, 0.0], [0.0, 1.0]]))  # y is vague
    assert steep.width == pytest.approx(2 * steep.height)
    assert abs(steep.angle) == pytest.approx(90)
    slanted = _ellipse(np.zeros(2), np.array([[1.0, 0.9], [0.9, 1.0]]))
    assert slanted.angle % 180 == pytest.approx(45)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_maps_of_one_row_column_or_position(shape):
    zero = (("scan_y", "scan_x"), np.zeros(shape))
    names = ("strain_xx", "strain_yy", "strain_xy", "rotation", "n_indexed")
    drawn(plot.strain_maps(xr.Dataset(dict.fromkeys(names, zero))))


@pytest.mark.parametrize(
    ("values", "limit", "extend"),
    [((-2, 2), 0.03, "neither"), ((-2, 5), 0.03, "max"), ((-5, 5), 0.03, "both")],
)
def test_a_colour_bar_tells_of_values_beyond_it(values, limit, extend):
    names = ("strain_xx", "strain_yy", "strain_xy", "rotation")
    percent = np.resize(values, (3, 4)) / 100
    strain = xr.Dataset(dict.fromkeys(names, (("scan_y", "scan_x"), percent)))
    figure = plot.strain_maps(strain, limit=limit)
    bars = [ax for ax in figure.axes if hasattr(ax, "_colorbar")]
    assert [bar._colorbar.extend for bar in bars[:3]] == [extend] * 3


def test_disks_of_a_scan_without_coordinates_lie_on_its_pattern(scan, results):
    pixels = scan[["pattern"]].drop_vars(["q_y", "q_x"]).assign_attrs(calibration={})
    image = plot.pattern(pixels).axes[0].images[0]
    rows, columns = scan["pattern"].shape[2:]
    left, right, bottom, top = image.get_extent()
    assert (left, right) == (-(columns // 2) - 0.5, columns - columns // 2 - 0.5)
    assert (top, bottom) == (-(rows // 2) - 0.5, rows - rows // 2 - 0.5)
    flipped = scan.isel(q_y=slice(None, None, -1))
    there = [plot.pattern(s).axes[0].images[0].get_extent() for s in (scan, flipped)]
    np.testing.assert_allclose(there[1][:2], there[0][:2])
    np.testing.assert_allclose(there[1][2:], there[0][:1:-1])
