"""How the scheduler, the client and the workers bear many blocks.

python benchmarks/scaling submit [blocks]         client and scheduler, empty blocks
python benchmarks/scaling graphs [blocks]         the client alone: all that it sends
python benchmarks/scaling workers [seconds]       1, 2, … 64 workers, blocks that sleep
python benchmarks/scaling few [seconds]           few blocks, on workers that are new
python benchmarks/scaling simulate [s] [ms]       the same, calculated
python benchmarks/scaling memory [GiB,GiB]        workers' memory against the scan's size
python benchmarks/scaling remember [turns]        memory of workers that do nothing
python benchmarks/scaling shares [detectors]      where the time of one block goes

Scheduler, workers and client are processes of their own; CPU times are those of each.
`workers` is a simulation in this sense: scheduler, client and messages are real, what a
worker does is to sleep for as long as a block was measured to take, so that 64 fit on one
machine. `simulate` does without any process: workers and one scheduler that serves them in
turn, with measured times of a block and of the scheduler, for machines too busy for that.
"""

import sys

import dask
from blocks import few, graphs, many_workers, remember, submit
from calculated import simulate
from memory import memory
from shares import shares

COMMANDS = {
    "submit": submit,
    "graphs": graphs,
    "workers": many_workers,
    "few": few,
    "simulate": simulate,
    "memory": memory,
    "remember": remember,
    "shares": shares,
}

if __name__ == "__main__":
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        COMMANDS[sys.argv[1]](*sys.argv[2:])
