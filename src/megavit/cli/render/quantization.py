"""Describe what int8 costs in accuracy and where it is faster, without promising more than was measured."""

from collections.abc import Sequence
from pathlib import Path

from megavit.bench.precisions import BatchSpeed
from megavit.exporting.quantization import Int8Result


def describe_accuracy(result: Int8Result) -> str:
    """Return a sentence on the accuracy in int8 and float32, its change, and how often they differ on reliability."""
    low, high = (f"{end * 100:+.2f}" for end in (result.change.low, result.change.high))
    return (
        f"accuracy on {result.images:,} images: {result.float32:.2%} in float32, {result.int8:.2%} in int8, a change "
        f"of {result.change.value * 100:+.2f} points (95%: {low} to {high})"
        + ("" if result.ood_changed is None else f"; {result.ood_changed:,} are unlike the training images in one only")
    )


def describe_refusal(result: Int8Result, max_accuracy_drop: float) -> str:
    """Return a sentence on why no bundle was written."""
    if result.keeps_ood:
        return (
            f"int8 loses more than {max_accuracy_drop:g} points of accuracy; nothing was written: --max-accuracy-drop "
            "allows more"
        )
    return (
        "int8 is too coarse to tell which images are unlike the training images; nothing was written: use the bundle "
        "in float32 or bfloat16"
    )


def describe_speed(speed: BatchSpeed) -> str:
    """Return a sentence on the times of a batch in all precisions, the fastest first."""
    ordered = sorted(speed.seconds.items(), key=lambda item: item[1])
    times = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in ordered)
    if speed.is_faster:
        verdict = f"int8 is {speed.speedup:.2f} times as fast as {speed.alternative}"
    elif speed.speedup >= 1:
        verdict = f"int8 is not faster than {speed.alternative}"
    else:
        verdict = f"int8 is slower than {speed.alternative}"
    return f"{_name_batch(speed.batch)}, on this machine: {times}; {verdict}"


def describe_use(out: Path, speeds: Sequence[BatchSpeed]) -> str:
    """Return a sentence on what the bundle in `out` is to be used for; int8 is advised only where it was faster."""
    faster = [speed for speed in speeds if speed.is_faster]
    if len(faster) == len(speeds):
        return f"{out}: use it with --precision int8"
    others = " and ".join(
        f"--precision {speed.alternative} for {_name_batch(speed.batch)}" for speed in speeds if not speed.is_faster
    )
    if faster:
        for_int8 = " and ".join(_name_batch(speed.batch) for speed in faster)
        return f"{out}: on this machine use --precision int8 for {for_int8}, but {others}"
    return f"{out}: int8 does not pay on this machine, use {others}; on other processors it may: measure it there"


def _name_batch(batch: int) -> str:
    return "single images" if batch == 1 else f"batches of {batch}"
