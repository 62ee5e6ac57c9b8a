"""connect_cluster("kubernetes") with a stand-in for kubectl, and a real scheduler."""

import os
import shutil
import sys
from pathlib import Path

import fcunet_dask as fcu
import pytest
from fcunet_dask.cluster.security import make_certificates, read_certificates

KUBECTL = """#!{python}
import json, pathlib, sys, time
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if {refuse!r} in sys.argv:
    sys.exit("error: the server doesn't have a resource type")
if "port-forward" in sys.argv:
    print("Forwarding from 127.0.0.1:{port} -> 8786", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Return a function that puts a kubectl on the path; its calls are in ``log``."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def install(port=1, refuse=""):
        log = str(tmp_path / "log")
        text = KUBECTL.format(python=sys.executable, log=log, port=port, refuse=refuse)
        (tmp_path / "kubectl").write_text(text)
        (tmp_path / "kubectl").chmod(0o755)

    return install


def test_a_manifest_is_applied_and_its_scheduler_reached(kubectl, tmp_path):
    from distributed import LocalCluster  # noqa: PLC0415

    certificates = make_certificates(tmp_path)
    options = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    security = read_certificates(certificates)
    with LocalCluster(protocol="tls", security=security, **options) as cluster:
        kubectl(port=cluster.scheduler_address.rsplit(":", 1)[1])
        client = fcu.connect_cluster(
            "kubernetes",
            recipe="gpu",
            certificates=certificates,
            workers=8,
            namespace="em",
        )
        with client:
            assert client.submit(sum, [1, 2]).result() == 3
    calls = (tmp_path / "log").read_text()
    assert "kubernetes/cluster-gpu.yaml" in calls
    assert '\\"replicas\\": 8' in calls
    assert calls.count('"--namespace=em"') == len(calls.splitlines()) == 5
    assert '"service/fcunet-scheduler", ":8786"' in calls


@pytest.mark.parametrize("verb", ["apply", "port-forward"])
def test_the_words_of_kubectl_are_passed_on(kubectl, verb):
    kubectl(refuse=verb)
    with pytest.raises(fcu.FcunetError, match="doesn't have a resource type"):
        fcu.connect_cluster("kubernetes", certificates="tls")


def test_an_unknown_manifest_is_refused(kubectl):
    kubectl()
    with pytest.raises(fcu.FcunetError, match="there is no recipe 'tpu'"):
        fcu.connect_cluster("kubernetes", recipe="tpu", certificates="tls")


def test_the_certificates_of_a_cluster_are_made_under_the_shared_folder(tmp_path):
    folder = make_certificates(tmp_path)
    assert folder.parent == tmp_path
    assert Path(read_certificates(folder).tls_ca_file) == folder / "ca.pem"
    shutil.rmtree(folder)
