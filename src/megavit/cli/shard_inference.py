"""Run `predict` and `embed` on images or shards, in one process or several."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megavit.errors import ConfigError, OutputError

Write = Callable[[Iterable[tuple[str, Any]], Path | None], tuple[int, int]]
"""Writes the results for named images to a new file, or prints them; returns the number of images, and of those that
could not be read."""


@dataclass(frozen=True)
class InferenceModel:
    """A loaded model that writes results, which depend on `settings` and `files`; `describe` formats their number."""

    write: Write
    settings: dict[str, Any]
    files: Sequence[Path]
    describe: Callable[[int, int], str]


@dataclass(frozen=True, kw_only=True)
class InferenceCommand:
    """The command `predict` or `embed` with its arguments.

    Attributes:
        name: name of the command.
        out: new file, or for shards new folder; None: standard output.
        suffixes: supported suffixes; the first one is used for the files in a folder.
        what: name of the results, in the plural.
    """

    name: str
    images: list[str]
    out: Path | None
    nproc: int | None
    suffixes: tuple[str, ...]
    what: str

    def __post_init__(self) -> None:
        check_images(self.images, self.name)

    def run(self, load: Callable[[], InferenceModel]) -> int:
        """Compute and write all results, and return the exit code.

        Raises:
            ConfigError: if several processes are requested for anything but shards.
            OutputError: if the results cannot be written to `out`.
        """
        from megavit.cli.console import notes
        from megavit.cli.launcher import launch, report_once
        from megavit.cli.writers.line_file import check_new_file
        from megavit.predict.input_sources import iter_images
        from megavit.runtime.process_group import die_with_parent, get_dist_context

        shards = self._find_shards()
        if get_dist_context().is_distributed:
            die_with_parent()
        elif (self.nproc or 1) > 1 and "WORLD_SIZE" not in os.environ:
            return launch(self.nproc or 1, sys.argv[1:], resume_command="the same command")
        if shards is None and self.out is not None:
            check_new_file(self.out, self.what, self.suffixes)
        with report_once():
            model = load()  # before the file is created, so that an invalid bundle leaves no empty one
            if shards is not None and self.out is not None:
                return self._write_shards(shards, self.out, model)
        total, failed = model.write(iter_images(self.images, sys.stdin.buffer), self.out)
        if not total:
            raise ConfigError(f"there are no images in {', '.join(self.images)}")
        if self.out is not None:
            notes.print(f"{model.describe(total, failed)} in {self.out}")
        return report_failures(failed, total)

    def _find_shards(self) -> str | None:
        """Return the shards whose results go to `out`; None if there are none, or the results are printed."""
        from megavit.predict.input_sources import is_shard_source
        from megavit.predict.standard_input import STANDARD_INPUT
        from megavit.runtime.process_group import get_dist_context

        source = self.images[0]
        is_shards = len(self.images) == 1 and source not in ("", STANDARD_INPUT) and is_shard_source(source)
        several = get_dist_context().is_distributed or (self.nproc or 1) > 1
        if several and not is_shards:
            raise ConfigError(
                "several processes can only be used for shards: create them with megavit shard DATA --out FOLDER"
            )
        if several and self.out is None:
            raise ConfigError(f"several processes cannot print their {self.what}: pass --out FOLDER or FILE")
        if not is_shards or self.out is None:
            return None
        if self.out.suffix not in ("", *self.suffixes):
            raise OutputError(
                f"{self.what} are written as {' or '.join(self.suffixes)}, or into a folder, not as {self.out.name!r}"
            )
        return source

    def _write_shards(self, source: str, out: Path, model: InferenceModel) -> int:
        """Write the results for this process's shards; the first process merges all if `out` is a file."""
        from megavit.cli.console import counting, notes
        from megavit.cli.launcher import set_final_code, stopped_elsewhere
        from megavit.data.shards.index import list_contents
        from megavit.data.shards.open import open_shards
        from megavit.predict.sharded_output import ShardedOutput
        from megavit.runtime.process_group import get_dist_context
        from megavit.runtime.storage import sha256

        dist = get_dist_context()
        rank, world = dist.rank, dist.world_size
        if _is_done(out, rank):
            return 0
        with counting("reading shards") as progress:
            folder, index = open_shards(source, progress)
        shards = list_contents(folder, index)
        made_of = {"model": [sha256(path) for path in model.files], "shards": index.fingerprint()} | model.settings
        try:
            parts = ShardedOutput(out, out.suffix or self.suffixes[0], list(shards), made_of)
        except OutputError:
            if rank and _is_done(out, rank):  # merged by the first process
                return 0
            raise
        if parts.is_file and out.exists():  # merged, but a process was killed before the removal
            parts.remove()
            return 0
        missing = list(parts.missing(rank, world))
        written = 0
        for name in missing:
            if stopped_elsewhere():
                return 0
            if parts.is_file and out.exists():
                break  # merged by the first process
            with parts.write(name) as part:
                images, unread = model.write(shards[name], part)
                if images != len(shards[name]):
                    raise AssertionError(f"{images} results for the {len(shards[name])} images of {name}")
                if unread:
                    parts.record_unreadable(name, unread)
            written += images
        if parts.is_file and out.exists():
            parts.remove()
            return 0
        if parts.is_file and rank:
            return 0  # the first process merges and reports
        own_shards = parts.shards if parts.is_file else parts.shards_of(rank, world)
        total = sum(len(shards[name]) for name in own_shards)
        if parts.is_file and not parts.wait(lambda: stopped_elsewhere() or out.exists()):
            return 0
        failed = parts.count_unreadable(own_shards)
        if parts.is_file:
            parts.merge()
        else:
            parts.remove_leftovers()
        done_before = 0 if parts.is_file and world > 1 else len(own_shards) - len(missing)
        notes.print(
            f"{written if done_before else total:,} {self.what} of {len(own_shards) - done_before:,} shards in {out}"
            + (f"; {done_before:,} shards were already done" if done_before else "")
        )
        code = report_failures(failed, total)
        return set_final_code(code) if code and world > 1 else code


def write_all(writer: Any, items: Iterable[Any]) -> tuple[int, int]:
    """Write results as they come; return the number of results, and of errors among them."""
    total = failed = 0
    with writer:
        for item in items:
            writer.write(item)
            total += 1
            failed += item.error is not None
    return total, failed


def report_failures(failed: int, total: int) -> int:
    """Print how many images could not be read, and return the exit code."""
    from megavit.cli.console import notes

    if failed:
        notes.print(f"{failed:,} of {total:,} images could not be read", style="yellow")
    return 2 if failed else 0


def _is_done(out: Path, rank: int) -> bool:
    """Return whether other processes of this command have written the file; raise an OutputError if not theirs."""
    from megavit.cli.launcher import is_refused, mark_refused
    from megavit.predict.sharded_output import is_merged
    from megavit.runtime.process_group import get_dist_context

    if not out.suffix or not out.exists() or (rank == 0 and is_merged(out)):
        return False
    # A fast process may finish before a slow or restarted one begins.
    if (rank or get_dist_context().restarts) and not is_refused():
        return True
    mark_refused()
    raise OutputError(f"{out} already exists: move it or choose another name")


def check_images(images: Sequence[str], command: str) -> None:
    """Raise a ConfigError if there are no images, or a name is an unknown option."""
    from megavit.predict.standard_input import STANDARD_INPUT

    if not images:
        raise ConfigError(
            f"IMAGES are missing: pass files, folders, or - for standard input to megavit {command} BUNDLE"
        )
    for name in images:
        if name.startswith("-") and name != STANDARD_INPUT and not os.path.exists(name):  # noqa: PTH110 - raises nothing
            raise ConfigError(f"unknown option {name}; megavit {command} --help lists all options")


def local_device(device: str) -> str:
    """Return `device`, or this process's GPU if several processes share the GPUs.

    Raises:
        ConfigError: if torchrun's environment variables are incomplete.
    """
    from megavit.runtime.process_group import get_dist_context

    dist = get_dist_context()
    return str(dist.pick_device(device)) if dist.is_distributed and ":" not in device else device
