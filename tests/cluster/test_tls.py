"""A scheduler and two workers as `deploy/make_certificates` secures them."""

import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import fcunet_dask as fcu
import pytest
from distributed import Client
from fcunet_dask.cluster.recipes import recipe_path

DASK = str(Path(sys.executable).with_name("dask"))
CLOSED = ("--dashboard-address", "127.0.0.1:0")


def make_certificates(folder):
    script = str(recipe_path("make_certificates"))
    subprocess.run(["bash", script, str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Return the folder of a running cluster: ``tls``, ``other`` and its files."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder / "tls")
    make_certificates(folder / "other")
    environment = os.environ | {"DASK_CONFIG": str(folder / "tls")}
    file = ("--scheduler-file", str(folder / "scheduler.json"))
    address = ("--host", "127.0.0.1")
    worker = ("worker", "--nthreads", "1", "--local-directory", str(folder))
    commands = [(DASK, "scheduler", "--port", "0"), (DASK, *worker), (DASK, *worker)]
    with (folder / "log").open("w") as log:
        processes = [
            subprocess.Popen(
                [*command, *address, *file, *CLOSED],
                env=environment,
                stdout=log,
                stderr=log,
            )
            for command in commands
        ]
    for _ in range(300):
        if (folder / "scheduler.json").exists():
            break
        time.sleep(0.1)
    yield folder
    for process in reversed(processes):
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def address(cluster):
    with fcu.connect_cluster(
        str(cluster / "scheduler.json"), certificates=cluster / "tls"
    ) as client:
        client.wait_for_workers(2, timeout=60)
        return client.scheduler.address


def test_a_client_with_the_certificate_computes(cluster, address):
    assert address.startswith("tls://")
    with fcu.connect_cluster(address, certificates=cluster / "tls") as client:
        assert all(worker.startswith("tls://") for worker in client.nthreads())
        assert da.ones((64, 64), chunks=16).sum().compute() == 4096


def test_a_client_without_a_certificate_is_refused(cluster, address):
    with pytest.raises(fcu.FcunetError, match="needs certificates"):
        fcu.connect_cluster(address)
    with pytest.raises(OSError, match=r"Timed out|closed|reset"):
        Client(address.replace("tls://", "tcp://"), timeout="3s")


def test_a_client_of_another_authority_is_refused(cluster, address):
    with pytest.raises(fcu.FcunetError, match="other certificates"):
        fcu.connect_cluster(address, certificates=cluster / "other", timeout="3s")


def test_workers_too_refuse_whoever_shows_no_certificate(cluster, address):
    with fcu.connect_cluster(address, certificates=cluster / "tls") as client:
        worker = next(iter(client.nthreads()))
    host, port = worker.removeprefix("tls://").split(":")
    context = ssl.create_default_context(cafile=str(cluster / "tls" / "ca.pem"))
    context.check_hostname = False
    plain = socket.create_connection((host, int(port)), timeout=10)
    stranger = context.wrap_socket(plain)
    refused = pytest.raises(OSError, match=r"certificate required|reset|closed")
    with stranger, refused:
        assert stranger.recv(1), "the worker has listened"


def test_certificates_are_private_and_never_overwritten(cluster):
    folder = cluster / "tls"
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("ca.pem", "cert.pem", "key.pem", "dask.yaml", "tls.yaml"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    script = str(recipe_path("make_certificates"))
    again = subprocess.run(
        ["bash", script, str(folder)], check=False, capture_output=True, text=True
    )
    assert again.returncode == 1
    assert "holds certificates already" in again.stderr


def test_the_certificates_pass_the_strict_checks_of_newer_pythons(cluster):
    files = [str(cluster / "tls" / f"{name}.pem") for name in ("ca", "cert")]
    verify = ("openssl", "verify", "-x509_strict", "-purpose")
    for purpose in ("sslserver", "sslclient"):
        subprocess.run([*verify, purpose, "-CAfile", *files], check=True)


def test_a_folder_without_certificates_is_named(tmp_path):
    with pytest.raises(fcu.FcunetError, match=r"lacks ca\.pem, cert\.pem, key\.pem"):
        fcu.connect_cluster("tls://127.0.0.1:1", certificates=tmp_path)
