"""Run one model in a process that reads messages from standard input and writes results to standard output.

The process exits when its input ends, also while loading, so that none survives the server. It also exits at an error
that is not the fault of an image: the server starts another worker and finds the image that caused it.
"""

import base64
import faulthandler
import gc
import json
import os
import select
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from megavit.data.decode.limits import TooManyPixelsError
from megavit.data.workers import MAX_WORKERS
from megavit.errors import ConfigError, ImageError, MegavitError
from megavit.runtime.parent_process import lower_priority
from megavit.runtime.processors import available_cpus
from megavit.runtime.signals import ignore_stop_signals
from megavit.serving.backends.base import Backend
from megavit.serving.settings import PredictOptions, WorkerSettings
from megavit.serving.workers.protocol import Outcome, Result, encode_header, read_message, split_body
from megavit.serving.workers.scheduler import BatchScheduler, Request

LARGE_PIXELS = 4_000_000
"""Pixels above which images are decoded one at a time: decoding 50 million pixels takes 350 MB."""
_encode = json.JSONEncoder(allow_nan=False).encode


class Worker:
    """The threads that preprocess, predict and explain images; `image_seconds` is the initial time per image."""

    def __init__(self, backend: Backend, settings: WorkerSettings, output: BinaryIO, image_seconds: float) -> None:
        self._backend, self._settings, self._output = backend, settings, output
        self._output_lock = threading.Lock()
        self._scheduler = BatchScheduler(
            settings.max_batch_size, settings.max_batch_seconds, image_seconds, backend.max_batch_bytes
        )
        self._arrived: SimpleQueue[Request] = SimpleQueue()
        self._large: SimpleQueue[Request] = SimpleQueue()
        max_pixels = min(LARGE_PIXELS, settings.max_pixels)
        for _ in range(min(available_cpus(), MAX_WORKERS)):
            _start_thread(self._preprocess_all, self._arrived, max_pixels)
        _start_thread(self._preprocess_all, self._large, settings.max_pixels)
        _start_thread(self._predict_all)

    def handle(self, header: dict[str, Any], body: bytes) -> None:
        if header["op"] == "cancel":
            canceled = self._scheduler.cancel(header["id"])
            if canceled is not None:
                self._finish([canceled], "canceled")
            return
        options = PredictOptions(**header["options"])
        for id, data in zip(header["ids"], split_body(body, header["lengths"]), strict=True):
            self._arrived.put(self._scheduler.add(id, options, data))

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        with self._output_lock:
            self._output.write(encode_header(header, len(body)) + body)
            self._output.flush()

    def _preprocess_all(self, requests: "SimpleQueue[Request]", max_pixels: int) -> None:
        while True:
            self._preprocess(requests.get(), max_pixels)

    def _preprocess(self, request: Request, max_pixels: int) -> None:
        if not self._scheduler.start(request):
            return
        try:
            request.image = self._backend.preprocess(request.data, request.options, max_pixels)
        except TooManyPixelsError as error:
            if max_pixels == self._settings.max_pixels:
                self._finish([request], "invalid_image", error=error.reason)
            elif self._scheduler.postpone(request):
                self._large.put(request)
            else:
                self._finish([request], "canceled")
        except ImageError as error:
            self._finish([request], "invalid_image", error=error.reason)
        except ConfigError as error:
            self._finish([request], "invalid_options", error=str(error))
        else:
            request.data = b""
            if not self._scheduler.enqueue(request, self._backend.nbytes(request.image)):
                self._finish([request], "canceled")

    def _predict_all(self) -> None:
        while True:
            batch = self._scheduler.next_batch()
            if batch.requests:
                images, options = zip(*((request.image, request.options) for request in batch.requests), strict=True)
                with self._scheduler.timed(len(images)):
                    results = self._backend.predict(images, options)
                for request, result in zip(batch.requests, results, strict=True):
                    request.result, request.batch_size = result, len(images)
                done = [
                    request
                    for request in batch.requests
                    if not (request.options.explanation and self._scheduler.enqueue_explanation(request))
                ]
                if done:
                    self._finish(done, "predicted")
            if batch.explain is not None:
                png = self._backend.explain(batch.explain.image)
                batch.explain.result["explanation"] = base64.b64encode(png).decode()
                self._finish([batch.explain], "predicted")

    def _finish(self, requests: Sequence[Request], outcome: Outcome, error: str | None = None) -> None:
        self._scheduler.remove(requests)
        results: list[Result] = []
        predictions: list[bytes] = []
        for request in requests:
            request.data, request.image = b"", None
            unlike = bool(request.result.get("out_of_distribution"))
            try:
                prediction = _encode(request.result).encode()
                result = Result(request.id, outcome, error, request.batch_size, unlike, len(prediction))
            except ValueError:
                prediction = b""
                result = Result(request.id, "failed", "the model's output for this image is not a finite number")
            results.append(result)
            predictions.append(prediction)
        self.send({"op": "results", "results": results}, b"".join(predictions))


def main(make_backend: Callable[[WorkerSettings], Backend]) -> None:
    """Run a worker process, whose only argument is its settings as JSON; report a MegavitError to the server."""
    # The server stops its workers, but Ctrl-C reaches the whole process group.
    ignore_stop_signals()
    lower_priority()  # keep the server responsive
    # Discard whatever else is printed: image libraries in C print parts of images.
    output, sys.stderr = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(2), "w", buffering=1)
    faulthandler.enable(sys.stderr)
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
    settings = WorkerSettings(**json.loads(sys.argv[1]))
    loaded = threading.Event()
    threading.Thread(target=_exit_with_server, args=[loaded], daemon=True).start()
    try:
        backend = make_backend(settings)
        image_seconds = backend.warm_up()
    except MegavitError as error:
        output.write(encode_header({"op": "failed", "error": str(error)}))
        output.flush()
        os._exit(2)
    gc.freeze()
    loaded.set()
    worker = Worker(backend, settings, output, image_seconds)
    worker.send({"op": "ready", "model": backend.describe(), "note": backend.note})
    while (message := read_message(sys.stdin.buffer)) is not None:
        worker.handle(*message)
    os._exit(0)


def _exit_with_server(loaded: threading.Event) -> None:
    """Exit if the input ends before the model is loaded; nothing is sent until then."""
    if os.name == "nt":  # no pipe can be waited for there: see `die_with_parent`
        return
    select.select([sys.stdin], [], [])
    if not loaded.is_set():
        os._exit(0)


def _start_thread(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=_run_or_exit, args=[work, *arguments], daemon=True).start()


def _run_or_exit(work: Callable[..., None], *arguments: Any) -> None:
    """Run work in a thread; end the process at an exception, which a thread would lose."""
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 - after any error the process cannot be trusted
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _make_backend(settings: WorkerSettings) -> Backend:
    # Imported here, as an exported model does not need PyTorch.
    from megavit.predict.exported_predictor import find_exported_model

    if find_exported_model(Path(settings.source)) is None:
        from megavit.serving.backends.predictor import PredictorBackend

        return PredictorBackend(settings)
    from megavit.serving.backends.exported import ExportedBackend

    return ExportedBackend(settings)


if __name__ == "__main__":
    main(_make_backend)
