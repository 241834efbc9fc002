"""The processes of one run, as one of them sees the others: who is who, and how they agree.

They are started by torchrun or another elastic agent of PyTorch, which tells each its place in the environment. A
process that is alone joins nothing: no part of `torch.distributed` is touched then.
"""

import contextlib
import ctypes
import datetime
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from megavit.errors import ConfigError, LostProcess, MegavitError

if TYPE_CHECKING:  # who only asks for its place need not wait for it
    import torch

T = TypeVar("T")
_SET_PARENT_DEATH_SIGNAL = 1  # of Linux' prctl
# What the leader alone does at the end, such as the report, takes as long as it takes.
PATIENCE = datetime.timedelta(days=7)
# In the messages of PyTorch's backends when another process is gone or does not come; they have no class of their own.
SIGNS_OF_LOSS = (
    "gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Timed out", "timed out", "Socket",
    "failed to recv", "failed to send",
)  # fmt: skip


@dataclass(frozen=True)
class DistContext:
    """A process among `world`, numbered by `rank` in the run and by `local` on its machine, restarted so many times.

    `group` is of those that are asked, in PyTorch's terms; None: all of them.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    restarts: int = 0
    group: Any = field(default=None, compare=False, repr=False)

    @property
    def many(self) -> bool:
        return self.world > 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def device(self, name: str) -> "torch.device":
        """The device of that name; on a machine with GPUs, each process has its own.

        Raises:
            ConfigError: as `pick_device`, and where several processes would share one GPU.
        """
        from megavit.runtime.device import pick_device

        if not self.many:
            return pick_device(name)
        if name.startswith("cuda:"):
            raise ConfigError(f"each of {self.world} processes has a GPU of its own: device must be cuda, got {name}")
        kind = pick_device(name).type
        return pick_device(f"cuda:{self.local}") if kind == "cuda" else pick_device("cpu")

    @contextlib.contextmanager
    def joined(self, device: "torch.device", timeout: float) -> Iterator[None]:
        """Join the others for the block; whoever waits `timeout` seconds for one that does not come ends with an error.

        Raises:
            LostProcess: when another process is gone, or does not come.
        """
        if agents_job() is not None:
            end_with_parent()
        if not self.many:
            yield
            return
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ConfigError(
                f"the environment says that this is one of {self.world} processes, and not where they meet "
                f"({', '.join(missing)}): start them with torchrun or --nproc, or remove RANK and WORLD_SIZE"
            )
        import torch
        import torch.distributed as dist

        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with self.losses_named():
            dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout))
            yield
            dist.destroy_process_group()

    @contextlib.contextmanager
    def losses_named(self) -> Iterator[None]:
        """Turn what PyTorch raises when another process is gone into a LostProcess."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, MegavitError) or not any(sign in str(error) for sign in SIGNS_OF_LOSS):
                raise
            reason = str(error).splitlines()[0]
            raise LostProcess(
                f"process {self.rank} of {self.world} has lost another one, which has ended or hangs ({reason}): the "
                "run goes on from its last checkpoint when all are started again"
            ) from error

    def first(self, function: Callable[[], T], *, patient: bool = False) -> T:
        """What `function` answers the leader, told to all; its error is everybody's.

        Args:
            patient: wait for it however long it takes.
        """
        if not self.many:
            return function()
        import torch.distributed as dist

        group: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if patient else self.group
        answer: list[T | None] = [None]
        fault: list[MegavitError | None] = [None]
        if self.leads:
            try:
                answer = [function()]
            except MegavitError as error:
                fault = [error]
        both = [answer[0], fault[0]]
        dist.broadcast_object_list(both, src=0, group=group)
        if self.leads and fault[0] is not None:
            raise fault[0]
        if isinstance(both[1], MegavitError):
            raise both[1]
        return both[0]  # pyrefly: ignore[bad-return]  # what the leader's `function` answered

    def every(self, value: T) -> list[T]:
        """The value of each process, by its rank."""
        if not self.many:
            return [value]
        import torch.distributed as dist

        found: list[T] = [value] * self.world
        dist.all_gather_object(found, value, group=self.group)
        return found

    def beside(self, timeout: float) -> "DistContext":
        """The same, to be asked from another thread while these are at work: on connections of their own."""
        import torch.distributed as dist

        return replace(self, group=dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout)))

    @contextlib.contextmanager
    def leading(self, context: AbstractContextManager[object]) -> Iterator[None]:
        """Enter `context` in the leader alone; that it cannot be entered is everybody's error."""
        with contextlib.ExitStack() as stack:
            self.first(lambda: stack.enter_context(context) and None)
            yield


def ranks() -> DistContext:
    """This process among those of its run, by what its elastic agent says; alone where there is none.

    Raises:
        ConfigError: where the environment says otherwise than torchrun would.
    """
    world, rank = _number("WORLD_SIZE", "1"), _number("RANK", "0")
    if rank >= world:
        raise ConfigError(f"RANK must be a number below WORLD_SIZE, as torchrun sets them; got {rank} and {world}")
    restarts = _number("TORCHELASTIC_RESTART_COUNT", "0")
    if world == 1 or "RANK" not in os.environ:
        return DistContext(restarts=restarts)
    return DistContext(rank=rank, world=world, local=_number("LOCAL_RANK", "0"), restarts=restarts)


def _number(name: str, default: str) -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise ConfigError(f"{name} in the environment must be a whole number, as torchrun sets it; got {value!r}")
    return int(value)


def agents_job() -> str | None:
    """What the elastic agent that started this process calls its job; None: there is none."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def neighbors() -> int:
    """Processes of this run on this machine, this one among them, which share its processors and memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends: an agent that is killed cannot end its workers."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
