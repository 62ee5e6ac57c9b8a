"""Lattices of a scan: found, fitted, and referred to what is unstrained."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import (
    apply_calibration,
    bragg_vector_map,
    compute_strain,
    find_bragg_vectors,
    find_lattice,
    fit_lattice,
    measure_origin,
    reference_lattice,
    simulate_scan,
)
from fcunet_dask.errors import AnalysisError, ParameterError
from fcunet_dask.lattice import given_lattice
from fcunet_dask.schema import LATTICE_VARIABLES, validate

RADIUS = 4.2 * 0.02


@pytest.fixture(scope="module")
def bragg(scan, detector):
    found = find_bragg_vectors(scan, detector).compute()
    return apply_calibration(found, origin=measure_origin(found))


@pytest.fixture(scope="module")
def basis(bragg):
    return find_lattice(bragg_vector_map(bragg, step=0.01, extent=1.6), radius=RADIUS)


@pytest.fixture(scope="module")
def lattice(bragg, basis):
    return fit_lattice(bragg, basis).compute()


def test_the_basis_is_that_of_the_crystal(basis, scan):
    middle = scan.isel(scan_y=3, scan_x=4)
    truth = np.stack([middle["true_g1"], middle["true_g2"]])
    found = np.stack([basis["g1"].values[0], basis["g2"].values[0]])
    turn = found @ np.linalg.inv(truth)
    np.testing.assert_allclose(turn, np.rint(turn), atol=0.03)
    assert basis["g1"].attrs["units"] == "1/Å"
    assert float(basis["explained"][0]) > 0.95


def test_names_dims_and_units(lattice):
    validate(lattice, *LATTICE_VARIABLES)
    assert lattice["g1"].attrs["units"] == "1/Å"
    assert lattice["lattice_covariance"].attrs["units"] == "1/Å²"
    assert lattice["parameter"].values.tolist()[:2] == ["origin_y", "origin_x"]
    assert (lattice["lattice_status"] == 0).all()
    assert lattice["quality"].min() > 0.95


def test_vectors_are_true_within_their_errors(lattice, basis, scan):
    truth = np.concatenate([scan["true_g1"].values, scan["true_g2"].values], -1)
    found = np.concatenate([lattice["g1"].values, lattice["g2"].values], -1)
    to_basis = np.rint(
        np.reshape([basis["g1"].values[0], basis["g2"].values[0]], (2, 2))
        @ np.linalg.inv(truth[0, 0].reshape(2, 2))
    )
    truth = (to_basis @ truth.reshape(6, 8, 2, 2)).reshape(6, 8, 4)
    variance = np.diagonal(lattice["lattice_covariance"].values, axis1=2, axis2=3)
    error = found - truth
    common = error.mean(axis=(0, 1))  # of the slope of the background: no strain
    assert np.abs(common).max() < 5e-4 * 0.36
    z = (error - common) / np.sqrt(variance[..., 2:])
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.68, abs=0.1)


def test_it_is_lazy(bragg, basis, never):
    fit_lattice(bragg.chunk(scan_y=2, scan_x=3, peak=-1), basis)


def test_chunks_do_not_matter(bragg, basis, lattice):
    cut = fit_lattice(bragg.chunk(scan_y=2, scan_x=3), basis).compute()
    for name in ("g1", "g2", "origin", "residual", "n_indexed", "lattice_covariance"):
        np.testing.assert_allclose(cut[name], lattice[name], rtol=1e-9)


def test_given_vectors_serve_as_well(bragg, basis, lattice):
    given = given_lattice(basis["g1"].values[0], basis["g2"].values[0])
    found = fit_lattice(bragg, given)
    np.testing.assert_allclose(found["g1"], lattice["g1"], atol=1e-9)


@pytest.mark.parametrize(
    ("g1", "g2"),
    [
        ((1, 0), (2, 0)),
        ((0, 0), (0, 1)),
        ((1,), (0, 1)),
        ((np.nan, 1), (1, 0)),
        ((np.inf, 1), (1, 0)),
    ],
)
def test_vectors_that_span_no_lattice_are_refused(g1, g2):
    with pytest.raises(ParameterError, match="g1"):
        given_lattice(g1, g2)


@pytest.mark.parametrize(
    "spots", [[], [(40, 40)], [(40, 40), (40, 55), (40, 70), (40, 25)]]
)
def test_too_few_or_collinear_spots_are_an_error(spots):
    image = np.zeros((81, 81))
    for y, x in spots:
        image[y, x] = 100.0
    axis = (np.arange(81) - 40) * 0.02
    histogram = xr.DataArray(
        image, dims=("q_y", "q_x"), coords={"q_y": axis, "q_x": axis}
    )
    with pytest.raises(AnalysisError, match="no lattice"):
        find_lattice(histogram, radius=RADIUS)


def test_the_reference_is_the_median_of_its_positions(lattice):
    region = (slice(1, 5), slice(0, 2))
    found = reference_lattice(lattice, region=region)
    strain = compute_strain(lattice, found, axes="detector").load()
    for name in ("strain_xx", "strain_yy", "strain_xy", "rotation"):
        assert abs(np.median(strain[name].values[region])) < 1e-12
    assert found["n_positions"].values.tolist() == [8]
    mask = np.zeros((6, 8), bool)
    mask[region] = True
    np.testing.assert_array_equal(
        reference_lattice(lattice, mask=mask)["g2"], found["g2"]
    )
    whole = reference_lattice(lattice)
    assert whole["n_positions"].values.tolist() == [48]


def test_positions_without_a_lattice_are_no_reference(lattice):
    broken = lattice.copy(deep=True)
    broken["g1"].values[0, 0] = 99.0
    broken["lattice_status"].values[0, 0] = 4
    found = reference_lattice(broken, region=(slice(0, 1), slice(0, 2)))
    np.testing.assert_allclose(found["g1"].values[0], lattice["g1"].values[0, 1])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mask": np.ones((2, 2), bool)}, ParameterError),
        (
            {"mask": np.ones((6, 8), bool), "region": (slice(1), slice(1))},
            ParameterError,
        ),
        ({"mask": np.zeros((6, 8), bool)}, AnalysisError),
        ({"region": (slice(90, 99), slice(0, 9))}, AnalysisError),
    ],
)
def test_references_that_are_none_are_refused(options, error, lattice):
    with pytest.raises(error):
        reference_lattice(lattice, **options)


def test_a_reference_outside_of_the_scan_is_said_to_be(lattice):
    with pytest.raises(AnalysisError, match=r"holds no position of the scan, \(6, 8\)"):
        reference_lattice(lattice, region=(slice(90, 99), slice(0, 9)))


FIRST = np.array([[5.2, 17.0], [17.0, -5.2]])


def turned(degrees, scale=1.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * FIRST @ np.array([[c, s], [-s, c]])


SECOND = {
    "turned": turned(20),
    "turned little, and larger": turned(9, 0.92),
    "another phase": np.array([[0.0, 13.0], [14.6, 4.0]]),
}
"""Vectors of the second grain; disks of the last can be indexed on the first, too."""


@pytest.fixture(scope="module", params=SECOND)
def bicrystal(detector, request):
    """Left four columns one grain, right four another."""
    second = SECOND[request.param]
    grains = [
        simulate_scan(
            scan=(5, 4),
            detector=(96, 112),
            radius=4.2,
            g1=tuple(g[0]),
            g2=tuple(g[1]),
            strain=0.0,
            rotation=0.0,
            descan=(0.0, 0.0),
            seed=i,
            blocks=None,
        )
        for i, g in enumerate((FIRST, second))
    ]
    grains[1] = grains[1].assign_coords(scan_x=grains[1]["scan_x"] + 8.0)
    scan = xr.concat([g.drop_vars("probe") for g in grains], "scan_x")
    found = find_bragg_vectors(scan, detector).compute()
    return (
        apply_calibration(found, origin=measure_origin(found)),
        FIRST * 0.02,
        second * 0.02,
    )


def test_two_grains_are_fitted_each_with_its_own(bicrystal):
    bragg, *truth = bicrystal
    histogram = bragg_vector_map(bragg, step=0.01, extent=1.6)
    basis = find_lattice(histogram, radius=RADIUS, most_grains=3)
    assert basis.sizes["grain"] == 2
    lattice = fit_lattice(bragg, basis).compute()
    assert (lattice["lattice_status"] == 0).all()
    grain = lattice["grain_index"].values
    assert (grain[:, :4] == grain[0, 0]).all()
    assert (grain[:, 4:] == 1 - grain[0, 0]).all()
    reference = reference_lattice(lattice)
    assert sorted(reference["n_positions"].values.tolist()) == [20, 20]
    for column, G in zip((0, 7), truth, strict=True):
        here = lattice.isel(scan_y=2, scan_x=column)
        turn = np.stack([here["g1"], here["g2"]]) @ np.linalg.inv(G)
        np.testing.assert_allclose(turn, np.rint(turn), atol=0.003)


@pytest.mark.parametrize("bicrystal", ["turned", "another phase"], indirect=True)
def test_one_lattice_does_not_fit_the_other_grain(bicrystal):
    bragg, G, _ = bicrystal
    lattice = fit_lattice(bragg, given_lattice(*G)).compute()
    assert (lattice["lattice_status"][:, :4] == 0).all()
    assert (lattice["lattice_status"][:, 4:] != 0).all()
    assert np.isnan(lattice["g1"][:, 4:]).all()
