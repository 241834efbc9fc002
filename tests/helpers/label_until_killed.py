"""Two processes label the images of a folder until they are killed, again and again; what was confirmed is printed.

Run as `python -m tests.helpers.label_until_killed FOLDER KILLS SEED`, a process of one thread, which may fork.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from megavit.labeling.store import LabelStore, Mark

WRITERS = 2


def label_forever(folder: Path, writer: int, first: int, pipe: int) -> None:
    """Label images in strokes of one to three; each number that is confirmed goes into the pipe."""
    store = LabelStore(folder)
    number = first
    while True:
        marks = [Mark(f"{writer}/{number}-{index}.jpg", "labeled", ("cat",)) for index in range(1 + number % 3)]
        store.add(f"{writer}-{number}", marks, "ada")
        os.write(pipe, b"%d\n" % number)
        number += 1


def start(folder: Path, writer: int, first: int) -> tuple[int, int]:
    """Return a child's process ID and the pipe of what it confirms."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        label_forever(folder, writer, first, writing)
    os.close(writing)
    return child, reading


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    random.seed(seed)
    confirmed = [0] * WRITERS  # numbers of strokes; the next one is sent again, as it may have been written
    for _ in range(kills // WRITERS):
        children = [start(folder, writer, confirmed[writer]) for writer in range(WRITERS)]
        time.sleep(random.uniform(0.005, 0.05))
        for writer, (child, pipe) in enumerate(children):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with os.fdopen(pipe) as lines:
                confirmed[writer] += len(lines.read().split())
    sys.stdout.write(json.dumps(confirmed))


if __name__ == "__main__":
    main()
