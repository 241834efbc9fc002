"""The server's end of one worker process."""

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from megavit.errors import BundleError
from megavit.serve.settings import Options, WorkerSettings
from megavit.serve.workers.protocol import head_of, next_frame

_SAID_LINES = 60
_DYING_SECONDS = 5.0
# First of all, as importing takes seconds on a busy machine: on Linux it ends with us, also where no thread of it runs.
_RUN = """
import os, runpy, sys
from megavit.runtime.process_group import die_with_parent
die_with_parent()
if os.getppid() != int(sys.argv.pop(1)):
    sys.exit("the server has ended")
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
# Bytes that are copied rather than written by themselves, which wakes the worker twice.
_TOGETHER = 2**16
_OF_PYTHON = ("Traceback (most recent call last)", "Fatal Python error")


@dataclass(frozen=True)
class Reply:
    """Of a worker about one image.

    Attributes:
        outcome: "answered", "unreadable", "refused" (options that the model cannot fulfil), "cancelled", or "failed"
            (it ended the worker).
        error: why, unless it was answered.
        answer: a JSON object.
        batch: images that were computed together.
        unlike: whether it is marked as unlike those of training.
    """

    outcome: str
    error: str | None = None
    answer: bytes = b"{}"
    batch: int = 0
    unlike: bool = False


@dataclass(eq=False)
class Image:
    """One accepted image, until it is answered.

    Attributes:
        reply: to come.
        cancelled_at: loop time at which nobody waited for it any more.
        ended_alone: how many workers have died with it and nothing else.
    """

    id: int
    data: bytearray
    options: Options
    reply: asyncio.Future[Reply]
    cancelled_at: float | None = None
    ended_alone: int = 0


@dataclass(eq=False)
class Link:
    """A process, ready for images.

    Attributes:
        model: what the worker told of its model.
        unfinished: the images that it has got and not replied about.
    """

    model: dict[str, Any]
    process: asyncio.subprocess.Process
    unfinished: dict[int, Image] = field(default_factory=dict)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_SAID_LINES))
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    """That listen to what the process says, and read its replies."""

    @classmethod
    async def start(
        cls, module: str, settings: WorkerSettings, seconds: float, spawned: Callable[[], None] = lambda: None
    ) -> "Link":
        """Run the module, and wait until its model has given its reference outputs.

        Args:
            seconds: that this may take.
            spawned: called when the process runs.

        Raises:
            BundleError: with the reason, where it has none to serve.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # what lies in the current folder is not imported
            "-c",
            _RUN,
            str(os.getpid()),
            module,
            json.dumps(asdict(settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        spawned()
        link = cls({}, process)
        assert process.stdout is not None
        link._tasks.append(asyncio.create_task(link._listen()))
        try:
            async with asyncio.timeout(seconds):
                frame = await next_frame(process.stdout)
        except TimeoutError:
            await link.end(0)
            raise BundleError(
                f"{settings.source} was not loaded within {seconds:g} seconds; look whether its files can be read, or "
                "give it more time with --load-timeout"
            ) from None
        except BaseException:
            await link.end(0)
            raise
        if frame is not None and frame[0]["op"] == "ready":
            link.model.update(frame[0]["model"])
            return link
        await link.end()
        if frame is None:
            raise BundleError(f"the worker of {settings.source} ended before it was ready: {link.last_words()}")
        raise BundleError(frame[0]["error"])

    def watch(self, replied: Callable[["Link", Image, Reply], None], ended: Callable[["Link"], None]) -> None:
        """From now on tell of replies, and of the process's end."""
        self._tasks.append(asyncio.create_task(self._read(replied, ended)))

    def send(self, image: Image) -> None:
        """The image's frame; the pipe's buffer takes it at once."""
        self.unfinished[image.id] = image
        self._write({"op": "image", "id": image.id, "options": asdict(image.options)}, image.data)

    def cancel(self, image: Image) -> None:
        """Nobody waits for it any more; the worker says when it has dropped it, or was too late to."""
        self._write({"op": "cancel", "id": image.id})

    def retire(self) -> None:
        """The process ends by itself: there is nothing more to come."""
        assert self.process.stdin is not None
        with contextlib.suppress(RuntimeError, ConnectionError):
            self.process.stdin.close()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self, patience: float = 2.0) -> None:
        """Retire it, and kill it where that takes longer than `patience` seconds."""
        self.retire()
        for seconds in (patience, _DYING_SECONDS):
            try:
                await asyncio.wait_for(self.process.wait(), seconds)
            except TimeoutError:
                self.kill()
            else:
                await asyncio.gather(*self._tasks)  # what it has said still comes
                return
        for task in self._tasks:  # the system holds it, in a read of a disk that does not answer
            task.cancel()
        await asyncio.wait(self._tasks)

    def last_words(self) -> str:
        """What Python told of its end; nothing that a decoder's library said of an image."""
        lines = list(self.said)
        starts = [i for i, line in enumerate(lines) if line.startswith(_OF_PYTHON)]
        if not starts:
            code = self.process.returncode
            return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return "\n".join(lines[starts[0] :])

    def _write(self, header: dict[str, Any], body: bytes | bytearray = b"") -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(RuntimeError, ConnectionError):  # it has died, which its output's end tells
            if len(body) < _TOGETHER:
                self.process.stdin.write(head_of(header, body) + body)
            else:
                self.process.stdin.write(head_of(header, body))
                self.process.stdin.write(body)

    async def _read(self, replied: Callable[["Link", Image, Reply], None], ended: Callable[["Link"], None]) -> None:
        assert self.process.stdout is not None
        try:
            while (frame := await next_frame(self.process.stdout)) is not None:
                header, answer = frame
                image = self.unfinished.pop(header["id"])
                reply = Reply(header["outcome"], header["error"], answer, header["batch"], header["unlike"])
                replied(self, image, reply)
        finally:
            self.kill()  # with its output closed it is of no use
            await self.process.wait()
            await self._tasks[0]
            ended(self)

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while True:
            try:
                line = await self.process.stderr.readline()
            except ValueError:  # longer than the stream's limit, and dropped
                continue
            if not line:
                return
            self.said.append(line.decode(errors="replace").rstrip()[:500])
