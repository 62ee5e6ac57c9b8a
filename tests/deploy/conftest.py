"""Several hosts on one machine, and the commands that docs/scaling.md tells."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import fcunet_dask as fcu
import pytest
import xarray as xr
from tests.deploy.shared_work import NOTING

ROOT = Path(__file__).parents[2]
SUBNET = "10.77.0"
INTERFACE = "hsn0"


class Hosts:
    """Hosts on one Ethernet; each has a name, one address on `hsn0` and its own $TMPDIR.

    The file system is otherwise shared, as by a parallel file system.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.addresses: dict[str, str] = {}
        self.running: list[Popen[str]] = []
        self.switch = f"fcunet{os.getpid()}"
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "up", "type", "bridge")

    def add(self, name: str) -> None:
        """Plug in a host."""
        address = f"{SUBNET}.{len(self.addresses) + 1}"
        space = self.space(name)
        _ip("netns", "add", space)
        self.addresses[name] = address
        link = ("link", "add", INTERFACE, "netns", space, "type", "veth")
        port = f"port{address.rsplit('.', 1)[1]}"
        _ip(*link, "peer", "name", port, "netns", self.switch)
        _ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        _ip("-n", space, "address", "add", f"{address}/24", "dev", INTERFACE)
        for link_name in ("lo", INTERFACE):
            _ip("-n", space, "link", "set", link_name, "up")
        names = "".join(f"{a} {n}\n" for n, a in self.addresses.items())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        (self.folder / f"tmp-{name}").mkdir()

    def space(self, name: str) -> str:
        """Return the network namespace of a host."""
        return f"{self.switch}-{name}"

    def on(self, name: str, *command: str) -> list[str]:
        """Return the command that runs `command` on a host."""
        enter = ["nsenter", f"--net=/run/netns/{self.space(name)}"]
        mount = (
            f"hostname {name}; mount --bind {self.folder}/hosts /etc/hosts; "
            f"export TMPDIR={self.folder}/tmp-{name}; "
            f"export {' '.join(f'{k}={v}' for k, v in NOTING.items())}; "
            f"export PATH={Path(sys.executable).parent}:$PATH; "
            f'cd {self.folder}; exec "$@"'
        )
        return [
            *enter,
            "unshare",
            "--uts",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            *command,
        ]

    def start(self, name: str, *command: str, **options: Any) -> Popen[str]:
        """Start `command` on a host; it ends with the test. Its words go to a log."""
        log = self.folder / f"{name}-{len(self.running)}.log"
        with log.open("w") as file:
            process = Popen(
                self.on(name, *command), stdout=file, stderr=file, text=True, **options
            )
        self.running.append(process)
        return process

    def run(self, name: str, *command: str, **options: Any) -> str:
        """Run `command` on a host to its end; return what it printed."""
        done = subprocess.run(
            self.on(name, *command),
            capture_output=True,
            text=True,
            check=False,
            **({"timeout": 300} | options),
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def wait_for(self, path: str, seconds: float = 60) -> Path:
        """Return a file of the shared file system once it is there."""
        file = self.folder / path
        end = time.monotonic() + seconds
        while not (file.exists() and file.stat().st_size):
            assert time.monotonic() < end, f"no {path} after {seconds} s\n{self.logs()}"
            time.sleep(0.2)
        return file

    def logs(self) -> str:
        """Return what was said on all hosts."""
        files = sorted(self.folder.glob("*.log"))
        return "".join(f"--- {f.name}\n{f.read_text()}" for f in files)

    def close(self) -> None:
        """End what was started, the namespaces with it."""
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in self.addresses:
            _ip("netns", "delete", self.space(name))
        _ip("netns", "delete", self.switch)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="session")
def measured(
    told: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, xr.Dataset]:
    """Return the scan of the document, and what a run without a cluster makes of it."""
    folder = tmp_path_factory.mktemp("scan")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    command = ["bash", "-euc", told["scan"]]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder / "scan.zarr", fcu.run(folder / "scan.zarr", folder / "out").load()


@pytest.fixture
def hosts(tmp_path: Path, measured: tuple[Path, xr.Dataset]) -> Iterator[Hosts]:
    """Return a network without hosts; its file system has the scan and ``deploy``."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip")
    (tmp_path / "scan.zarr").symlink_to(measured[0])
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    hosts = Hosts(tmp_path)
    yield hosts
    hosts.close()


@pytest.fixture(scope="session")
def told() -> dict[str, str]:
    """Return the commands of docs/scaling.md that are marked ``<!-- run: NAME -->``."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    blocks = re.findall(r"<!-- run: (\S+) -->\n+```\w*\n(.*?)```", text, re.DOTALL)
    return dict(blocks)
