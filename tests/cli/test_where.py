"""``--cluster``: the same words for every command."""

import inspect

import pytest
import typer
from distributed import LocalCluster
from fcunet_dask.cli import plan, strain, survey, where
from fcunet_dask.errors import ComputeError, ParameterError

THREADS = {"processes": False, "threads_per_worker": 1, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=1, **THREADS) as cluster:
        yield cluster


def test_no_cluster_is_this_process():
    with where.computing("none", 0) as client:
        assert client is None


def test_a_local_cluster_takes_options_and_ends_with_the_command():
    words = "local,processes=false,threads_per_worker=3,dashboard_address=:0"
    with where.computing(words, 2) as client:
        assert sorted(client.nthreads().values()) == [3, 3]
        started = client.cluster
    assert client.status == started.status.name == "closed"


def test_a_cluster_that_was_there_is_told_and_goes_on(cluster, capsys):
    with where.computing(cluster.scheduler_address, 1) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    said = capsys.readouterr().out.split()
    assert said[:3] == ["scheduler", cluster.scheduler_address, "workers"]
    assert len(said) == 4
    assert cluster.status.name == "running"


def test_workers_that_do_not_come_are_counted(cluster, monkeypatch):
    monkeypatch.setattr(where, "PATIENCE_S", 0.2)
    with (
        pytest.raises(ComputeError, match="1 of 2 workers came"),
        where.computing(cluster.scheduler_address, 2),
    ):
        pass


@pytest.mark.parametrize("words", ["local,2", "local,n_workers=", "slurm,=2"])
def test_words_that_make_no_sense_are_refused(words):
    with pytest.raises(typer.BadParameter, match="NAME,OPTION=VALUE"):
        where.computing(words, 0).__enter__()


def test_options_are_numbers_truths_or_words():
    name, options = where._parsed(
        "slurm,jobs=2,walltime=10:00:00,account=007,cores=0,queue=on,x=true,y=-1.5,z=1e3"
    )
    assert name == "slurm"
    assert options == {
        "jobs": 2,
        "walltime": "10:00:00",
        "account": "007",
        "cores": 0,
        "queue": "on",
        "x": True,
        "y": -1.5,
        "z": "1e3",
    }


def test_no_cluster_has_no_options():
    with pytest.raises(typer.BadParameter, match="none has no options"):
        where.computing("none,jobs=4", 0).__enter__()


def test_what_is_no_cluster_is_refused():
    with pytest.raises(ParameterError, match="'kubernetes', an address"):
        where.computing("perlmutter", 0).__enter__()


@pytest.mark.parametrize("command", [plan, strain, survey])
def test_every_command_has_the_same_words(command):
    parameters = inspect.signature(command).parameters
    assert parameters["cluster"].annotation == where.Cluster
    assert parameters["workers"].annotation == where.Workers
