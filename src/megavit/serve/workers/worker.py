"""The process that holds one model: frames in on its standard input, answers out on its standard output.

It ends when its input does, also while it loads, so that none is left when the server is killed. What goes wrong in it
and is no image's fault ends it: the server starts another one and finds the image that did it.
"""

import base64
import faulthandler
import gc
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from megavit.data.decode.limits import TooManyPixels
from megavit.data.workers import MOST_WORKERS, processors
from megavit.errors import ConfigError, ImageError, MegavitError
from megavit.predict.exported_predictor import find_exported_model
from megavit.serve.backends.base import Backend
from megavit.serve.settings import Options, WorkerSettings
from megavit.serve.workers.protocol import head_of, read_frame
from megavit.serve.workers.scheduler import BatchScheduler, Job

BIG_PIXELS = 4_000_000
"""Above it images are decoded one at a time: a picture of 50 million pixels takes 350 MB while it is."""
NICENESS = 10


class Worker:
    """A backend at work.

    Args:
        outgoing: where replies go.
        one_takes: seconds that one image takes the backend.
    """

    def __init__(self, backend: Backend, settings: WorkerSettings, outgoing: BinaryIO, one_takes: float) -> None:
        self._backend, self._settings, self._outgoing = backend, settings, outgoing
        self._sending = threading.Lock()
        self._desk = BatchScheduler(settings.batch_size, settings.batch_seconds, one_takes, backend.batch_bytes)
        self._small = ThreadPoolExecutor(min(processors(), MOST_WORKERS))
        self._big = ThreadPoolExecutor(1)
        threading.Thread(target=_or_die, args=[self._answer_all], daemon=True).start()

    def take(self, header: dict[str, Any], body: bytes) -> None:
        """A frame of the front."""
        if header["op"] == "cancel":
            cancelled = self._desk.cancel(header["id"])
            if cancelled is not None:
                self._close(cancelled, "cancelled")
            return
        job = self._desk.open(header["id"], Options(**header["options"]), body)
        self._small.submit(_or_die, self._prepare, job, min(BIG_PIXELS, self._settings.max_pixels))

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        with self._sending:
            self._outgoing.write(head_of(header, body) + body)
            self._outgoing.flush()

    def _prepare(self, job: Job, max_pixels: int) -> None:
        if not self._desk.begin(job):
            return
        try:
            job.picture = self._backend.prepare(job.data, job.options, max_pixels)
        except TooManyPixels as error:
            if max_pixels == self._settings.max_pixels:
                self._close(job, "unreadable", error=error.reason)
            elif self._desk.postponed(job):
                self._big.submit(_or_die, self._prepare, job, self._settings.max_pixels)
            else:
                self._close(job, "cancelled")
        except ImageError as error:
            self._close(job, "unreadable", error=error.reason)
        except ConfigError as error:
            self._close(job, "refused", error=str(error))
        else:
            job.data = b""
            if not self._desk.prepared(job, self._backend.size(job.picture)):
                self._close(job, "cancelled")

    def _answer_all(self) -> None:
        while True:
            work = self._desk.next()
            if work.batch:
                with self._desk.timed(len(work.batch)):
                    answers = self._backend.answer(
                        [job.picture for job in work.batch], [job.options for job in work.batch]
                    )
                for job, answer in zip(work.batch, answers, strict=True):
                    job.answer, job.batch = answer, len(work.batch)
                    if not (job.options.explanation and self._desk.answered(job)):
                        self._close(job, "answered")
            if work.explained is not None:
                overlay = self._backend.explain(work.explained.picture)
                work.explained.answer["overlay"] = base64.b64encode(overlay).decode()
                self._close(work.explained, "answered")

    def _close(self, job: Job, outcome: str, error: str | None = None) -> None:
        self._desk.close(job)
        job.data, job.picture = b"", None
        header = {"op": "answer", "id": job.id, "outcome": outcome, "error": error, "batch": job.batch}
        header["unlike"] = bool(job.answer.get("out_of_distribution"))
        try:
            answer = json.dumps(job.answer, allow_nan=False)
        except ValueError:
            header["outcome"], header["error"] = "failed", "the model's answer to this image is not a number"
            answer = "{}"
        self.send(header, answer.encode())


def main(make_backend: Callable[[WorkerSettings], Backend]) -> None:
    """Serve frames; the settings are the only argument, as JSON.

    Args:
        make_backend: loads the model; its MegavitError is what the server tells.
    """
    # The server ends us, in order; a Ctrl-C reaches the whole group of processes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)  # the server answers also while we keep every processor busy
    # Frames alone go to the server, and on standard error what Python says. The libraries that decode, in C, say much
    # of an image, some of it in its own words: that goes nowhere.
    outgoing, sys.stderr = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(2), "w", buffering=1)
    faulthandler.enable(sys.stderr)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    settings = WorkerSettings(**json.loads(sys.argv[1]))
    loaded = threading.Event()
    threading.Thread(target=_end_with_server, args=[loaded], daemon=True).start()
    try:
        backend = make_backend(settings)
        one_takes = backend.warm_up()
    except MegavitError as error:
        outgoing.write(head_of({"op": "failed", "error": str(error)}))
        outgoing.flush()
        os._exit(2)
    gc.freeze()
    loaded.set()
    worker = Worker(backend, settings, outgoing, one_takes)
    worker.send({"op": "ready", "model": backend.describe()})
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        worker.take(*frame)
    os._exit(0)


def _end_with_server(loaded: threading.Event) -> None:
    """Nothing is sent before the model is loaded: until then its input can only end."""
    select.select([sys.stdin], [], [])
    if not loaded.is_set():
        os._exit(0)


def _or_die(work: Callable[..., None], *arguments: Any) -> None:
    """In a thread, where an exception would be lost."""
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 - whatever it is, the process is not to be trusted any more
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _backend(settings: WorkerSettings) -> Backend:
    """Imported when it is known which: an exported model need not wait for PyTorch."""
    if find_exported_model(Path(settings.source)) is None:
        from megavit.serve.backends.predictor import PredictorBackend

        return PredictorBackend(settings)
    from megavit.serve.backends.exported import ExportedBackend

    return ExportedBackend(settings)


if __name__ == "__main__":
    main(_backend)
