"""Start and end the process that forwards the log of a run to an experiment tracker."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from megavit.config.recipe import Recipe
from megavit.runtime.storage import writing
from megavit.training.context import RunContext
from megavit.training.tracking.trackers import check_tracker

# Seconds that a tracker gets after the run to take what is left.
GRACE_SECONDS = 20.0
MESSAGES = "tracker.log"


class Tracking:
    """A process that forwards the log of a run; its failure is said once, and changes nothing else.

    Args:
        say: function that tells the user a sentence.
    """

    def __init__(self, run_dir: Path, name: str, say: Callable[[str], None]) -> None:
        self.run_dir, self.name, self.say = run_dir, name, say
        self._told = False
        command = [sys.executable, "-m", "megavit.training.tracking.forward", str(run_dir.absolute()), name]
        with writing("the messages of the tracker", run_dir), (run_dir / MESSAGES).open("ab") as messages:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=messages, stderr=messages)

    def check(self) -> None:
        """Say, once, if the process has failed."""
        if not self._told and self._process.poll():
            self._tell(f"has failed: {self._last_message()}")

    def close(self) -> None:
        """Let the process forward the rest, for `GRACE_SECONDS` at most."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._tell(f"did not take everything within {GRACE_SECONDS:.0f} seconds after the end")
        finally:  # also when a signal ends the wait
            self._process.kill()
            self._process.wait()
        self.check()

    def _tell(self, what: str) -> None:
        if not self._told:
            self._told = True
            self.say(f"the tracker {self.name} {what}; all figures are in {self.run_dir / 'log.jsonl'}")

    def _last_message(self) -> str:
        try:
            lines = (self.run_dir / MESSAGES).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no message")


@contextmanager
def tracking(ctx: RunContext, recipe: Recipe) -> Iterator[RunContext]:
    """Yield the context with the recipe's tracker, if any, which runs until the block ends.

    Raises:
        ConfigError: if the tracker's library is not installed.
    """
    name = recipe.run.track
    if name is None or not ctx.dist.is_main_process:
        yield ctx
        return
    check_tracker(name)
    process = Tracking(ctx.run_dir, name, ctx.reporter.say)
    try:
        yield replace(ctx, check_tracker=process.check)
    finally:
        process.close()
