"""A scheduler and workers on three hosts, by the commands of docs/scaling.md."""

import xarray as xr
from fcunet_dask.pipeline.results import open_results
from tests.deploy.shared_work import expect_shared_work

SHELL = ("bash", "-euc")


def test_three_hosts_map_the_strain_over_tls(hosts, told, measured):
    for name in ("login", "node1", "node2"):
        hosts.add(name)
    hosts.run("login", *SHELL, told["certificates"])
    hosts.start("login", *SHELL, told["scheduler"])
    hosts.wait_for("scheduler.json")
    for name in ("node1", "node2"):
        hosts.start(name, *SHELL, told["worker"])
    said = hosts.run("login", *SHELL, told["strain"])
    for name in hosts.addresses:
        answers = [
            speaks_plain_http(hosts, name, port) for port in open_ports(hosts, name)
        ]
        assert answers
        assert not any(answers), f"a dashboard of {name} is open"
    assert f"scheduler tls://{hosts.addresses['login']}:" in said
    for name in ("node1", "node2"):
        assert f"tls://{hosts.addresses[name]}:" in said
    out = hosts.folder / "strain.zarr"
    xr.testing.assert_equal(open_results(out), measured[1])
    expect_shared_work(hosts.folder, out, ("node1", "node2"))


def open_ports(hosts, name):
    """Return the ports of a host that others can reach."""
    lines = hosts.run(name, "ss", "-Hltn").splitlines()
    sockets = [line.split()[3].rsplit(":", 1) for line in lines]
    return [port for address, port in sockets if not address.startswith("127.")]


def speaks_plain_http(hosts, name, port):
    """Ask from another host, as a browser would."""
    other = next(n for n in hosts.addresses if n != name)
    write = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 || true"
    ask = f"exec 3<>/dev/tcp/{name}/{port}; {write}; timeout 5 head -c 5 <&3 || true"
    answer = hosts.run(other, *SHELL, ask)
    return answer == "HTTP/"
