"""The memory of a server of an OpenVINO export, whose images all have sizes of their own.

    python -m benchmarks.openvino_memory EXPORT [--requests 10000] [--json FILE]

Starts `megavit serve EXPORT`, sends it pictures of random sizes one after the other, and prints the memory of its
processes together after 100, 1,000, ... requests, and at the end.
"""

import argparse
import io
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

SIDES = (32, 320)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "megavit", "serve", str(given.export), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    rows = []
    try:
        _wait(f"http://127.0.0.1:{port}/health/ready")
        random = np.random.default_rng(0)
        began = time.perf_counter()
        for count in range(1, given.requests + 1):
            height, width = random.integers(*SIDES, 2)
            _ask(f"http://127.0.0.1:{port}/predict", _picture(int(height), int(width), count))
            if count in (1, 100, 1_000, 10_000) or count == given.requests:
                rows.append({"requests": count, "mib": memory(server.pid), "seconds": time.perf_counter() - began})
                sys.stdout.write(f"{count:>8,} requests  {rows[-1]['mib']:>6,.0f} MiB  {rows[-1]['seconds']:>6,.0f} s\n")
                sys.stdout.flush()
    finally:
        server.terminate()
        server.wait()
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def memory(root: int) -> float:
    """MiB of a process and all below it that are in memory."""
    children: dict[int, list[int]] = {}
    resident: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                facts = (folder / "status").read_text()
            except OSError:
                continue
            lines = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
            children.setdefault(int(lines["PPid"]), []).append(int(folder.name))
            resident[int(folder.name)] = int(lines.get("VmRSS", "0 kB").split()[0]) / 1024
    todo, total = [root], 0.0
    while todo:
        process = todo.pop()
        total += resident.get(process, 0.0)
        todo += children.get(process, [])
    return total


def _picture(height: int, width: int, seed: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, height), (seed % 256, seed // 256 % 256, 9)).save(target, "PNG", compress_level=1)
    return target.getvalue()


def _ask(url: str, body: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
        answer.read()


def _wait(url: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
