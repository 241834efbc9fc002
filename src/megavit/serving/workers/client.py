"""Run and communicate with a worker process."""

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from megavit.errors import BundleError
from megavit.serving.settings import PredictOptions, WorkerSettings
from megavit.serving.workers.protocol import Result, encode_header, read_message_async, split_body

_MAX_STDERR_LINES = 60
_KILL_SECONDS = 5.0
# Runs before the slow imports, so that the worker always exits with the server.
_RUN = """
import runpy, sys
from megavit.runtime.parent_process import die_with_parent
die_with_parent(int(sys.argv.pop(1)))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
_PYTHON_ERRORS = ("Traceback (most recent call last)", "Fatal Python error")


@dataclass(eq=False)
class PendingImage:
    """An accepted image without a reply.

    Attributes:
        reply: future of the result, and the prediction as a JSON object.
        canceled_at: loop time at which the client stopped waiting.
        solo_crashes: number of workers that crashed while processing only this image.
    """

    id: int
    data: bytearray
    options: PredictOptions
    reply: asyncio.Future[tuple[Result, bytes]]
    canceled_at: float | None = None
    solo_crashes: int = 0


@dataclass(eq=False)
class WorkerClient:
    """A running worker process whose model is loaded.

    Attributes:
        note: sentence for the log of the server.
        pending: images that the worker has not replied to.
        stderr: last lines of the process's standard error.
    """

    model: dict[str, Any]
    process: asyncio.subprocess.Process
    note: str | None = None
    pending: dict[int, PendingImage] = field(default_factory=dict)
    stderr: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_STDERR_LINES))
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(
        cls, module: str, settings: WorkerSettings, timeout: float, on_spawn: Callable[[], None] = lambda: None
    ) -> "WorkerClient":
        """Run the module as a process, and wait `timeout` seconds until it has loaded and tested its model.

        Raises:
            BundleError: if the model cannot be served, with the reason.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current folder is not importable
            "-c",
            _RUN,
            str(os.getpid()),
            module,
            json.dumps(asdict(settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        on_spawn()
        client = cls({}, process)
        assert process.stdout is not None
        client._readers.append(asyncio.create_task(client._read_stderr()))
        try:
            async with asyncio.timeout(timeout):
                message = await read_message_async(process.stdout)
        except TimeoutError:
            await client.stop(0)
            raise BundleError(
                f"{settings.source} was not loaded within {timeout:g} seconds: check that its files are readable, "
                "or increase --load-timeout"
            ) from None
        except BaseException:
            await client.stop(0)
            raise
        if message is not None and message[0]["op"] == "ready":
            client.model.update(message[0]["model"])
            client.note = message[0]["note"]
            return client
        await client.stop()
        if message is None:
            raise BundleError(f"the worker of {settings.source} exited before it was ready: {client.exit_reason()}")
        raise BundleError(message[0]["error"])

    def watch(
        self,
        on_results: Callable[["WorkerClient", list[tuple[PendingImage, Result, bytes]]], None],
        on_exit: Callable[["WorkerClient"], None],
    ) -> None:
        """Call back for the results of every message, with their predictions, and when the process exits."""

        async def read() -> None:
            assert self.process.stdout is not None
            try:
                while (message := await read_message_async(self.process.stdout)) is not None:
                    results = [Result(*fields) for fields in message[0]["results"]]
                    predictions = split_body(message[1], [result.length for result in results])
                    images = [self.pending.pop(result.id) for result in results]
                    on_results(self, list(zip(images, results, predictions, strict=True)))
            finally:
                self.kill()
                await self.process.wait()
                await self._readers[0]
                on_exit(self)

        self._readers.append(asyncio.create_task(read()))

    def send(self, images: Iterable[PendingImage]) -> None:
        """Send images; the pipe's buffer takes them at once."""
        for options, group in groupby(images, lambda image: image.options):
            together = list(group)
            self.pending.update((image.id, image) for image in together)
            ids, lengths = [image.id for image in together], [len(image.data) for image in together]
            header = {"op": "predict", "options": vars(options), "ids": ids, "lengths": lengths}
            self._write(header, [image.data for image in together])

    def cancel(self, image: PendingImage) -> None:
        """Tell the worker that nobody waits for an image; it still replies."""
        self._write({"op": "cancel", "id": image.id})

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def stop(self, grace_seconds: float = 2.0) -> None:
        """Close the worker's input, so that it exits, and kill it after the grace period."""
        assert self.process.stdin is not None
        with contextlib.suppress(RuntimeError, ConnectionError):
            self.process.stdin.close()
        for seconds in (grace_seconds, _KILL_SECONDS):
            try:
                await asyncio.wait_for(self.process.wait(), seconds)
            except TimeoutError:
                self.kill()
            else:
                await asyncio.gather(*self._readers)
                return
        for task in self._readers:  # the process cannot be killed while it waits for a disk
            task.cancel()
        await asyncio.wait(self._readers)

    def exit_reason(self) -> str:
        """Return Python's report of the crash, without output of image libraries, or the exit code."""
        lines = list(self.stderr)
        starts = [i for i, line in enumerate(lines) if line.startswith(_PYTHON_ERRORS)]
        if not starts:
            code = self.process.returncode
            return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return "\n".join(lines[starts[0] :])

    def _write(self, header: dict[str, Any], parts: Sequence[bytes | bytearray] = ()) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(RuntimeError, ConnectionError):  # it has exited, which `watch` handles
            self.process.stdin.writelines([encode_header(header, sum(map(len, parts))), *parts])

    async def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        while True:
            try:
                line = await self.process.stderr.readline()
            except ValueError:  # a line beyond the stream's limit is dropped
                continue
            if not line:
                return
            self.stderr.append(line.decode(errors="replace").rstrip()[:500])
