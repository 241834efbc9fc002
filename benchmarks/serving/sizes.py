"""The memory of a server whose images all have sizes of their own.

    python -m benchmarks.serving.sizes BUNDLE_OR_EXPORT [--requests 10000] [--json FILE]

Sends pictures of random sizes one after the other, and prints the memory of all its processes together after 1, 100,
1,000 and 10,000 requests, and at the end.
"""

import argparse
import asyncio
import io
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.serving.client import Client, request
from benchmarks.serving.processes import ServerProcess, pss, start_megavit

SIDES = (32, 320)
MOMENTS = (1, 100, 1_000, 10_000)


async def measure(server: ServerProcess, requests: int) -> dict[int, float]:
    """Return MiB by the number of requests that were answered."""
    random, found = np.random.default_rng(0), {}
    async with Client(server.port) as client:
        for count in range(1, requests + 1):
            height, width = random.integers(*SIDES, 2).tolist()
            reply = await client.ask(request("/predict", _encode_image(height, width, count)))
            if reply.status != 200:
                raise RuntimeError(f"request {count} got status {reply.status}: {reply.body!r}")
            if count in MOMENTS or count == requests:
                found[count] = pss(server.processes()) / 2**20
                sys.stdout.write(f"{count:>8,} requests  {found[count]:>6,.0f} MiB\n")
                sys.stdout.flush()
    return found


def _encode_image(height: int, width: int, seed: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, height), (seed % 256, seed // 256 % 256, 9)).save(target, "PNG", compress_level=1)
    return target.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, start_megavit(arguments.model.resolve(), Path(folder)) as server:
        found = asyncio.run(measure(server, arguments.requests))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"mib_by_requests": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
