"""Scaling calculated from measured times, for machines too busy for 64 workers."""

import heapq


def simulate(seconds="0.65", milliseconds="2.0"):
    """Strong and weak scaling, calculated from measured times."""
    block, serve_one = float(seconds), float(milliseconds) / 1e3
    print("| workers | strong: 6400 blocks | weak: 10 a worker |")
    print("| --- | --- | --- |")
    for number in (1, 2, 4, 8, 16, 32, 64, 128):
        shown = []
        for blocks in (6400, 10 * number):
            ideal = block * -(-blocks // number)
            shown.append(
                f"{100 * ideal / simulated(number, blocks, block, serve_one):.1f} %"
            )
        print(f"| {number} | {shown[0]} | {shown[1]} |")


def simulated(number, blocks, block, serve_one):
    """Seconds of a run: each worker has a block in work and one in hand.

    The scheduler serves one message after another, each in `serve_one` seconds; it hears
    of a block when it is finished, and gives the worker another one then.
    """
    free = 0.0  # from when on the scheduler has time
    waiting = blocks
    events, hands = [], [0] * number
    for turn in range(2):
        for worker in range(number):
            if waiting:
                waiting -= 1
                free += serve_one
                heapq.heappush(events, (free, turn, "given", worker))
    end, busy = 0.0, [False] * number
    while events:
        now, _, what, worker = heapq.heappop(events)
        if what == "given":
            hands[worker] += 1
        else:
            busy[worker] = False
            end = max(end, now)
            free = max(free, now) + serve_one
            if waiting:
                waiting -= 1
                heapq.heappush(events, (free, 1, "given", worker))
        if hands[worker] and not busy[worker]:
            hands[worker] -= 1
            busy[worker] = True
            heapq.heappush(events, (now + block, 0, "done", worker))
    return max(end, free)
