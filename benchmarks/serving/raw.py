"""The model without any server, for `benchmarks.serving.load`: a question a line on standard input, as JSON.

    python -m benchmarks.serving.raw BUNDLE IMAGE...

It has the engine, the threads and the images that the server has, and nothing to do but compute.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import megavit
from megavit.data.image_dataset import make_batch
from megavit.predict.predictor import Predictor


def measure_decoded(predictor: Predictor, images: list[bytes], batch: int, seconds: float) -> dict[str, Any]:
    """Images a second from their bytes: decoded in threads, computed in batches of this size."""

    def endless() -> Any:
        started = time.perf_counter()
        for index in cycle(range(len(images))):
            if time.perf_counter() - started > seconds:
                return
            yield str(index), images[index]

    started = time.perf_counter()
    count = sum(1 for _ in predictor.stream(endless(), batch_size=batch))
    return {"images_per_second": count / (time.perf_counter() - started)}


def measure_computed(predictor: Predictor, images: list[bytes], batch: int, seconds: float) -> dict[str, Any]:
    """Images a second of pictures that are decoded already."""
    prepared = [predictor.prepare(image) for image in islice(cycle(images), batch)]
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        output = predictor.forward(make_batch(prepared, predictor.info.preprocessing))
        count += len(predictor.calibrator.predictions(output, predictor.labels, 5, None))
    return {"images_per_second": count / (time.perf_counter() - started)}


def measure_single(predictor: Predictor, images: list[bytes], count: int, pause: float) -> dict[str, Any]:
    """Seconds of each of `count` images, decoded and computed alone, with a pause before each."""
    seconds = []
    for image in islice(cycle(images), count):
        time.sleep(pause)
        started = time.perf_counter()
        predictor.predict(image)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds}


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "decoded": measure_decoded,
    "computed": measure_computed,
    "single": measure_single,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    arguments = parser.parse_args()
    predictor = megavit.load(arguments.bundle)
    images = [path.read_bytes() for path in arguments.images]
    for line in sys.stdin:
        request = json.loads(line)
        result = WAYS[request.pop("way")](predictor, images, **request)
        sys.stdout.write(json.dumps(result | {"engine": predictor.engine.note}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
