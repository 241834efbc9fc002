"""Broken images against the server: none may bring an answer of 500 or above, end its worker, or take much memory.

    python -m benchmarks.serving.fuzz BUNDLE [--images 10000] [--seed 0] [--output FILE]

Real images of every format that is read, each with something broken: see `benchmarks.serving.mutations`. Image N of a
seed is the same every time. The worker's memory is the most that it ever held (VmHWM), above what it held before.
"""

import argparse
import asyncio
import json
import sys
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import uvloop

from benchmarks.serving.client import Client, request
from benchmarks.serving.intrusions import REQUESTS
from benchmarks.serving.mutations import mutate, real_images
from benchmarks.serving.processes import peak_memory_above, pss, reset_peak_memory, start_megavit
from benchmarks.serving.schedule import Reply, milliseconds, percentile, statuses
from megavit.bench.run import describe_machine

CLIENTS = 4
MAX_PEAK_MIB = 300
EXPECTED = (200, 422)
SLOW_SECONDS = 5.0


async def measure(bundle: Path, folder: Path, images: int, seed: int) -> dict[str, Any]:
    real = real_images()
    replies: dict[int, Reply] = {}
    indices = count(seed)
    with start_megavit(bundle, folder) as server:
        async with Client(server.port) as client:
            for index in range(200):
                await client.ask(REQUESTS[index % len(REQUESTS)])
            for image in real:
                reply = await client.ask(request("/predict", image))
                if reply.status != 200:
                    raise RuntimeError(f"an undamaged image got status {reply.status}: {reply.body!r}")
            worker = server.worker()
            before, shared = reset_peak_memory(worker), pss([worker])

            async def ask() -> None:
                for index in indices:
                    if index >= seed + images:
                        return
                    replies[index] = await client.ask(request("/predict", mutate(real, index)))

            started = time.perf_counter()
            await asyncio.gather(*(ask() for _ in range(CLIENTS)))
            seconds = time.perf_counter() - started
            last = await client.ask(REQUESTS[0])
        alive = worker.is_running()
        peak_mib = round(peak_memory_above(worker, before) / 2**20, 1) if alive else None
        after = pss([worker]) - shared if alive else 0
        code, orphan_count = server.stop()
    seconds_each = [reply.done - reply.sent for reply in replies.values()]
    return {
        "images": len(replies),
        "seed": seed,
        "statuses": statuses(list(replies.values())),
        "unexpected": [index for index, reply in replies.items() if reply.status not in EXPECTED][:20],
        "slow": [index for index, reply in replies.items() if reply.done - reply.sent > SLOW_SECONDS][:20],
        "worker_restarted": not alive,
        "worker_peak_above_mib": peak_mib,
        "worker_after_above_mib": round(after / 2**20, 1),
        "p99_ms": milliseconds(percentile(seconds_each, 0.99)),
        "slowest_ms": milliseconds(max(seconds_each)),
        "seconds": round(seconds, 1),
        "answers_afterwards": last.status == 200,
        "exit_code": code,
        "orphans": orphan_count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first image")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file for the result")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(arguments.bundle.resolve(), Path(name), arguments.images, arguments.seed))
    figures = describe_machine(torch.device("cpu")) | found
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")
    peak_mib = found["worker_peak_above_mib"]
    sys.exit(
        bool(found["unexpected"] or peak_mib is None or peak_mib > MAX_PEAK_MIB or not found["answers_afterwards"])
    )


if __name__ == "__main__":
    main()
