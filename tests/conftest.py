"""Scans that many tests look at, and a scheduler that must not run."""

import logging
import os
import urllib.request

import dask
import pytest
from fcunet_dask import estimate_probe, load_detector, run, simulate_scan
from fcunet_dask.simulate.library import make_library
from fcunet_dask.simulate.recipe import LibraryRecipe
from hypothesis import settings
from moto.server import ThreadedMotoServer
from tests.matched_filter import matched_filter, saved
from threadpoolctl import threadpool_limits

# the same examples in every run of CI; new ones in every run of a developer
settings.register_profile("ci", derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread():
    """Small matrices: more threads only wait for one another."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def scan():
    """6 × 8 patterns of 96 × 112 px, 24 disks or so; 2 % strain on the right."""
    return simulate_scan(
        scan=(6, 8),
        detector=(96, 112),
        radius=4.2,
        g1=(5.2, 17.0),
        g2=(17.0, -5.2),
        descan=(0.8, -1.1),
        structure=0.0,
        dose=2e5,
        blocks=None,
    )


@pytest.fixture(scope="session")
def probe(scan):
    return estimate_probe(scan)


@pytest.fixture(scope="session")
def detector(probe):
    return load_detector("template", probe)


@pytest.fixture(scope="session")
def results(scan, tmp_path_factory):
    """What `run` makes of the scan, all by itself."""
    return run(scan.drop_vars("probe"), tmp_path_factory.mktemp("run") / "out")


@pytest.fixture(scope="session")
def tiny_recipe():
    """Four patterns, made in a second."""
    return LibraryRecipe(
        seed=5,
        box=20.0,
        size=96,
        pixels=48,
        depths=(24.0,),
        depth_shares=(1.0,),
        thicknesses=2,
        block=2,
        probes=1,
        semiangle=(4.0, 9.0),
        min_radius=2.0,
        reflections=48,
    )


@pytest.fixture(scope="session")
def tiny_library(tiny_recipe, tmp_path_factory):
    """The library of this recipe."""
    out = tmp_path_factory.mktemp("library") / "tiny.zarr"
    return make_library(tiny_recipe, out, patterns=4)


@pytest.fixture
def never():
    """Scheduler under which any computation is an error."""

    def refuse(graph, keys, **options):
        msg = "something was computed while the graph was built"
        raise AssertionError(msg)

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture(scope="session")
def object_store():
    """URL of a bucket on an S3 server of the tests' own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    urllib.request.urlopen(
        urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Name of the weights of a network whose answers are known."""
    return saved(matched_filter(), tmp_path_factory.mktemp("weights") / "hand.keras")
