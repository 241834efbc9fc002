"""Read and write a checkpoint's manifest: validated training state without tensors, and file digests."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megavit.config.checks import check_integer, check_range
from megavit.config.serialization import from_dict, parse_json
from megavit.errors import BundleError, ConfigError
from megavit.runtime.storage import write_file
from megavit.train.history import EpochRecord
from megavit.train.spike_detection import WINDOW, SpikeDetector

MANIFEST = "manifest.json"
MAX_STEPS = 10**12
_COUNTS = ("step", "skipped", "skipped_in_a_row", "loss_steps", "rollbacks", "rollback_step", "dropped_batches")


@dataclass(frozen=True, kw_only=True)
class StateNumbers:
    """The fields of a `megavit.train.state.TrainState` that are not tensors, and its `tp_size`."""

    step: int
    progress: float
    validated: float
    skipped: int
    skipped_in_a_row: int
    loss_sum: float
    loss_steps: int
    seconds: float
    best_epoch: int | None
    history: list[EpochRecord]
    rollbacks: int
    rollback_step: int
    dropped_batches: int
    spike_detector: SpikeDetector
    tp_size: int

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_integer(name, getattr(self, name), minimum=0)
        check_integer("tp_size", self.tp_size, minimum=1)
        check_range("step", self.step, 0, MAX_STEPS)
        check_range("dropped_batches", self.dropped_batches, 0, MAX_STEPS)
        check_range("progress", self.progress, 0, 1)
        check_range("validated", self.validated, 0, self.progress)
        check_range("seconds", self.seconds, 0, float("inf"))
        check_range("rollback_step", self.rollback_step, 0, self.step)
        check_range("skipped", self.skipped, 0, self.step)
        check_range("skipped_in_a_row", self.skipped_in_a_row, 0, self.skipped)
        check_range("loss_steps", self.loss_steps, 0, self.step)
        steps = [epoch.step for epoch in self.history]
        if steps != sorted(steps) or not all(0 < step <= self.step for step in steps):
            raise ConfigError(f"history must be of ascending steps from 1 to {self.step}, got {steps[:5]}")
        if any(epoch.val_metric > 1 for epoch in self.history):
            raise ConfigError("history must be of metrics of at most 1")
        if self.history:
            check_integer("best_epoch", self.best_epoch, minimum=0)
            check_range("best_epoch", self.best_epoch, 0, len(self.history) - 1)
        elif self.best_epoch is not None:
            raise ConfigError(f"best_epoch must be none where there is no history, got {self.best_epoch}")
        if max(len(self.spike_detector.losses), len(self.spike_detector.norms)) > WINDOW:
            raise ConfigError(f"spike_detector must be of {WINDOW} steps at most")
        for name in ("outliers", "high_losses"):
            check_integer(f"spike_detector.{name}", getattr(self.spike_detector, name), minimum=0)


def write_manifest(folder: Path, numbers: dict[str, Any], digests: dict[str, str]) -> None:
    """Write a checkpoint's manifest from `TrainState.numbers` and the SHA-256 of its files by name."""
    manifest = numbers | {"files": digests}
    write_file(folder / MANIFEST, json.dumps(manifest | {"sha256": digest_manifest(manifest)}))


def read_manifest(checkpoint: Path, step: int) -> tuple[StateNumbers, dict[str, str]]:
    """Return a checkpoint's numbers and file digests, or raise BundleError if its manifest is altered or invalid."""
    path = checkpoint / MANIFEST
    manifest = parse_json(path.read_bytes(), str(path), BundleError)
    if manifest.pop("sha256", None) != digest_manifest(manifest):
        raise BundleError(f"{checkpoint} is not what was written")
    digests = manifest.pop("files")
    try:
        numbers = from_dict(StateNumbers, manifest, str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from None
    if numbers.step != step:
        raise BundleError(f"{path} cannot be used: it is of step {numbers.step:,}, and is named after step {step:,}")
    return numbers, digests


def digest_manifest(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest, which detects changes to it."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
