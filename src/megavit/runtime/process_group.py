"""The process group of a run, started by torchrun or another elastic agent, and its collectives."""

import contextlib
import datetime
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from megavit.errors import ConfigError, LostProcessError, MegavitError
from megavit.runtime.parent_process import die_with_parent

if TYPE_CHECKING:  # callers that only need the rank do not import torch
    import torch

T = TypeVar("T")
# Timeout for long work of the main process alone, such as the report.
LONG_TIMEOUT = datetime.timedelta(days=7)
# Substrings of PyTorch's messages when another process is lost, for which there is no exception class.
LOST_PROCESS_MESSAGES = (
    "gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Timed out", "timed out", "Socket",
    "failed to recv", "failed to send",
)  # fmt: skip
# Number of a process's groups, one after the other, which is the same in all processes.
_groups = itertools.count()


@functools.cache
def _meet(timeout: datetime.timedelta) -> "torch.distributed.Store":
    """Return the store at the environment's address, once there is one, in which processes find each other."""
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    return store


@dataclass(frozen=True)
class DistContext:
    """The context of one process among the `world_size` processes of a run.

    Attributes:
        local_rank: rank of this process on its machine.
        restarts: number of restarts of the run by the elastic agent.
        group: torch.distributed process group of the collectives; None for the default group.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    restarts: int = 0
    group: Any = field(default=None, compare=False, repr=False)

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def pick_device(self, name: str) -> "torch.device":
        """Return the device called `name`, on machines with GPUs one for each process.

        Raises:
            ConfigError: if the device does not exist, or several processes would share one GPU.
        """
        from megavit.runtime.device import KINDS, pick_device

        if not self.is_distributed:
            return pick_device(name)
        kind, colon, _ = name.partition(":")
        if colon:
            raise ConfigError(
                f"each of {self.world_size} processes uses its own GPU, so device must be {kind}, got {name}"
            )
        device = pick_device(name)
        if KINDS[device.type].collectives is None:
            if name != "auto":
                raise ConfigError(f"several processes cannot share {name}: use --device cpu, or one process")
            return pick_device("cpu")
        return device if device.type == "cpu" else pick_device(f"{device.type}:{self.local_rank}")

    @contextlib.contextmanager
    def init_process_group(self, device: "torch.device", timeout: float) -> Iterator[None]:
        """Initialize the default process group, with a timeout in seconds, for the duration of the block.

        Raises:
            ConfigError: if the environment lacks the address of the main process.
            LostProcessError: if another process ends or does not join.
        """
        if get_elastic_run_id() is not None:
            die_with_parent()
        if not self.is_distributed:
            yield
            return
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ConfigError(
                f"WORLD_SIZE in the environment is {self.world_size}, without {' and '.join(missing)}: start the "
                "processes with torchrun or --nproc, or unset RANK and WORLD_SIZE"
            )
        import torch
        import torch.distributed as dist

        from megavit.runtime.device import KINDS

        backend = "gloo"
        if device.type != "cpu":
            torch.accelerator.set_device_index(device)
            backend = f"cpu:gloo,{device.type}:{KINDS[device.type].collectives}"
        limit = datetime.timedelta(seconds=timeout)
        with self.translate_errors():
            # In an elastic agent's store the addresses of a group before are still there, and would be taken for new.
            store = dist.PrefixStore(f"group {next(_groups)}", _meet(limit))
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.world_size, timeout=limit)
            yield
            dist.destroy_process_group()

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Convert PyTorch's errors about lost processes into a LostProcessError."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, MegavitError) or not any(text in str(error) for text in LOST_PROCESS_MESSAGES):
                raise
            reason = str(error).splitlines()[0]
            raise LostProcessError(
                f"process {self.rank} of {self.world_size} lost another process, which has ended or hangs ({reason}): "
                "restart all processes to resume the run from its last checkpoint"
            ) from error

    def run_on_main(self, function: Callable[[], T], *, wait_long: bool = False) -> T:
        """Call `function` in the main process; return its result, or raise its MegavitError, in every process.

        Others wait for the process group's timeout, or for up to seven days with `wait_long`.
        """
        if not self.is_distributed:
            return function()
        import torch.distributed as dist

        group: Any = dist.new_group(backend="gloo", timeout=LONG_TIMEOUT) if wait_long else self.group
        outcome: list[Any] = [None, None]
        if self.is_main_process:
            try:
                outcome[0] = function()
            except MegavitError as error:
                outcome[1] = error
        received = list(outcome)
        dist.broadcast_object_list(received, src=0, group=group)
        result, error = outcome if self.is_main_process else received
        if error is not None:
            raise error
        return result

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank."""
        if not self.is_distributed:
            return [value]
        import torch.distributed as dist

        values: list[T] = [value] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def new_group(self, timeout: float) -> "DistContext":
        """Return a context with a separate process group of the same processes, for use in another thread."""
        import torch.distributed as dist

        return replace(self, group=dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout)))

    @contextlib.contextmanager
    def main_process_only(self, context: AbstractContextManager[object]) -> Iterator[None]:
        """Enter `context` in the main process only; its failure is raised in every process."""
        with contextlib.ExitStack() as stack:
            self.run_on_main(lambda: stack.enter_context(context) and None)
            yield


def get_dist_context() -> DistContext:
    """Return this process's context from torchrun's environment variables, or raise ConfigError if invalid."""
    world_size, rank = _read_number("WORLD_SIZE", "1"), _read_number("RANK", "0")
    if rank >= world_size:
        raise ConfigError(f"RANK must be a number below WORLD_SIZE, as torchrun sets them; got {rank} and {world_size}")
    restarts = _read_number("TORCHELASTIC_RESTART_COUNT", "0")
    if world_size == 1 or "RANK" not in os.environ:
        return DistContext(restarts=restarts)
    return DistContext(rank, world_size, _read_number("LOCAL_RANK", "0"), restarts)


def _read_number(name: str, default: str) -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise ConfigError(
            f"{name} in the environment must be a non-negative integer, as torchrun sets it; got {value!r}"
        )
    return int(value)


def get_elastic_run_id() -> str | None:
    """Return the run ID of the elastic agent that started this process, or None."""
    return os.environ.get("TORCHELASTIC_RUN_ID")
