"""The server under load, beside the model alone and LitServe with the same model, in one run and in turns.

    python -m benchmarks.serving.load BUNDLE IMAGES... [--litserve-python FILE] [--output FILE]

IMAGES are files or folders. Everything runs on this machine, the sender too: what it costs is in the result. The
servers are processes of their own; those not measured at the moment are held still (SIGSTOP), so that what they do when
idle costs nobody else. Times are from when a request was due.

starts       from nothing until ready, until the first answer, memory then
rates        1, 4, 16 and 64 clients that ask again as soon as they are answered
overload     1, 2 and 10 times the capacity, independent arrivals (Poisson), for twice as long
alone        one request at a time, with a pause before each, beside the model and its decoding
memory       over 10,000 requests
accelerator  a stand-in for one: every batch takes 20 ms, whatever its size
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import uvloop

from benchmarks.serving.accelerator import measure_accelerator
from benchmarks.serving.contestants import OURS, PEER, UNBATCHED, make_contestants
from benchmarks.serving.processes import RawModel, ServerProcess
from benchmarks.serving.rates import measure_rates, measure_startup
from benchmarks.serving.strain import measure_memory_growth, measure_overload, measure_single_requests
from megavit.bench.run import describe_machine
from megavit.data.decode.image_file import inspect_image
from megavit.errors import ImageError
from megavit.predict.input_sources import iter_images

PARTS = ("starts", "rates", "overload", "alone", "memory", "accelerator")


def readable(path: Path) -> bool:
    try:
        inspect_image(path.read_bytes())
    except ImageError:
        return False
    return True


def litserve_version(python: Path | None) -> str | None:
    if python is None:
        return None
    code = "from importlib.metadata import version; print(version('litserve'))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    paths = [path for name, _ in iter_images(arguments.images, sys.stdin.buffer) if readable(path := Path(name))]
    if not paths:
        raise SystemExit(f"there are no readable images in {', '.join(arguments.images)}")
    images = [path.read_bytes() for path in paths]
    contestants = make_contestants(arguments.bundle, images, folder, arguments.litserve_python)
    main_contestants = [contestant for contestant in contestants if contestant.name in (OURS, PEER)]
    found: dict[str, Any] = {}
    with RawModel(arguments.bundle, paths) as raw:
        for part in arguments.parts:
            sys.stderr.write(f"{part}\n")
            match part:
                case "starts":
                    found[part] = await measure_startup(
                        [contestant for contestant in contestants if contestant.name != UNBATCHED], arguments.rounds
                    )
                case "rates":
                    found[part] = await measure_rates(contestants, raw, arguments.rounds, arguments.seconds)
                case "overload":
                    found[part] = await measure_overload(main_contestants, arguments.rounds, arguments.seconds)
                case "alone":
                    found[part] = await measure_single_requests(main_contestants, raw, arguments.rounds)
                case "memory":
                    found[part] = await measure_memory_growth(main_contestants)
                case "accelerator":
                    found[part] = await measure_accelerator(
                        arguments.bundle,
                        arguments.litserve_python,
                        images,
                        folder,
                        rounds=arguments.rounds,
                        seconds=arguments.seconds,
                    )
    sizes = sorted(map(len, images))
    return {
        "litserve": litserve_version(arguments.litserve_python),
        "images": {"count": len(images), "median_bytes": sizes[len(sizes) // 2]},
    } | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", nargs="+")
    parser.add_argument(
        "--litserve-python", type=Path, metavar="FILE", help="Python interpreter with litserve installed"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each measurement")
    parser.add_argument("--apart", action="store_true", help="the sender has the last processor, servers the others")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file for the result")
    arguments = parser.parse_args()
    arguments.bundle = arguments.bundle.resolve()
    if arguments.apart:
        *ServerProcess.cores, last = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {last})
    with TemporaryDirectory() as name, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(arguments, Path(name)))
    figures = describe_machine(torch.device("cpu")) | {"bundle": arguments.bundle.parent.name} | found
    figures["servers_on"] = ServerProcess.cores
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
