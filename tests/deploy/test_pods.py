"""The pods of the CPU manifests, run: each on a host of its own, by the operator's rules.

There are no containers and no API server here: the operator's own functions make the
pods of a manifest, and `run_pod` gives each process what its pod would have.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fcunet_dask
import pytest
import xarray as xr
import yaml
from fcunet_dask.pipeline.results import open_results
from tests.deploy.shared_work import NOTING, expect_shared_work

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NOBODY = 1000


def manifest(name):
    return yaml.safe_load((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text())


def deployed(cluster):
    """Return the pods that the operator would make of a DaskCluster, by host name."""
    code = (
        "import sys, yaml;"
        "from dask_kubernetes.operator.controller import controller as c;"
        "d = yaml.safe_load(sys.stdin); s = d['spec']; n = d['metadata']['name'];"
        "pods = {n + '-scheduler': c.build_scheduler_deployment_spec("
        "n, s['scheduler']['spec'], {}, {})};"
        "pods |= {f'worker{i}': c.build_worker_deployment_spec("
        "n + '-default', 'default', n, str(i), s['worker']['spec'], {}, {})"
        " for i in range(s['worker']['replicas'])};"
        "print(yaml.safe_dump({k: p['spec']['template']['spec']"
        " for k, p in pods.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=yaml.safe_dump(cluster),
        capture_output=True,
        text=True,
        check=True,
    )
    return yaml.safe_load(done.stdout)


class Kubelet:
    """Runs pods on hosts; secret and claim are folders."""

    def __init__(self, hosts, told):
        self.hosts = hosts
        self.folder = hosts.folder
        subprocess.run(
            ["bash", "-euc", told["kubernetes-certificates"]],
            cwd=hosts.folder,
            check=True,
        )
        os.chown(self.folder / "tls", 0, NOBODY)
        (self.folder / "tls").chmod(0o750)
        for file in (self.folder / "tls").iterdir():
            os.chown(file, 0, NOBODY)
            file.chmod(0o440)
        (self.folder / "data").mkdir()
        scan = (self.folder / "scan.zarr").resolve()
        shutil.copytree(scan, self.folder / "data" / "scan.zarr")
        os.chown(self.folder / "data", NOBODY, NOBODY)

    def volume(self, host, volume):
        if "secret" in volume:
            return self.folder / "tls"
        if "persistentVolumeClaim" in volume:
            return self.folder / "data"
        folder = self.folder / f"{host}-{volume['name']}"
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        return folder

    def command(self, host, pod):
        """Return what the only container of a pod does."""
        (container,) = pod["containers"]
        volumes = {v["name"]: self.volume(host, v) for v in pod["volumes"]}
        mounts = [
            f"{volumes[m['name']]}:{m['mountPath']}" for m in container["volumeMounts"]
        ]
        package = Path(fcunet_dask.__file__).parents[1]
        mounts += [f"{p}:{p}" for p in {sys.prefix, sys.base_prefix, str(package)}]
        env = {e["name"]: e["value"] for e in container["env"]}
        env |= NOTING
        env |= {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "PYTHONPATH": str(package)}
        # the last bits of a product depend on the processor that BLAS takes this for
        env |= {k: v for k, v in os.environ.items() if k.startswith("OPENBLAS_")}
        args = list(container["args"])
        for name, value in env.items():
            args = [arg.replace(f"$({name})", value) for arg in args]
        words = (f"{name}={value}" for name, value in env.items())
        script = str(Path(__file__).with_name("run_pod"))
        root = f"{self.folder}/root-{host}"
        return (script, root, " ".join(mounts), "env", "-i", *words, *args)


def test_the_pods_map_the_strain(hosts, told, measured):
    kubelet = Kubelet(hosts, told)
    pods = deployed(manifest("cluster-cpu"))
    assert sorted(pods) == ["fcunet-scheduler", "worker0", "worker1"]
    for host in (*pods, "client"):
        hosts.add(host)
    for host, pod in pods.items():
        hosts.start(host, *kubelet.command(host, pod))
    job = manifest("strain-job")["spec"]["template"]["spec"]
    said = hosts.run("client", *kubelet.command("client", job))
    assert "scheduler tls://fcunet-scheduler:8786" in said
    for host in ("worker0", "worker1"):
        assert f"tls://{hosts.addresses[host]}:" in said
    out = hosts.folder / "data" / "strain.zarr"
    xr.testing.assert_equal(open_results(out), measured[1])
    expect_shared_work(hosts.folder, out, ("worker0", "worker1"))
    assert out.stat().st_uid == NOBODY
    for page, code in (
        ("health", "200"),
        ("status", "404"),
        ("info/main/workers.html", "404"),
    ):
        assert status(hosts, f"http://fcunet-scheduler:8787/{page}") == code


def test_pods_are_nobody_and_cannot_write_to_their_root(hosts, told):
    kubelet = Kubelet(hosts, told)
    hosts.add("client")
    pod = manifest("strain-job")["spec"]["template"]["spec"]
    tries = (
        "for f in /x /etc/x /tls/x /data/x /tmp/x; do touch $f && echo $f; done; id -u"
    )
    pod["containers"][0]["args"] = ["bash", "-c", tries]
    said = hosts.run("client", *kubelet.command("client", pod))
    assert said.split() == ["/data/x", "/tmp/x", "1000"]


def status(hosts, url):
    code = (
        "import sys, urllib.request as u, urllib.error as e\n"
        f"try: print(u.urlopen('{url}', timeout=10).status)\n"
        "except e.HTTPError as error: print(error.code)"
    )
    return hosts.run("client", "python", "-c", code).strip()
