"""Tell where int8 was measured to be no faster than another precision, when the bundle was quantized."""

from collections.abc import Mapping
from typing import Any

from megavit.runtime.processors import processor_id


def describe_slow_int8(int8: Mapping[str, Any]) -> str | None:
    """Return a sentence if int8 did not pay on a processor like this one; None if it did, or if that is not known.

    Args:
        int8: `BundleInfo.int8`, with the speeds of `megavit.bench.precisions.BatchSpeed`.
    """
    if int8.get("processor") != processor_id():
        return None
    parts = []
    for speed in int8.get("speeds", []):
        if not speed["faster"]:
            seconds, other = speed["seconds"], speed["alternative"]
            images = "single images" if speed["batch"] == 1 else f"batches of {speed['batch']}"
            parts.append(f"{images} take {seconds['int8'] * 1e3:.1f} ms, in {other} {seconds[other] * 1e3:.1f} ms")
    if not parts:
        return None
    return f"int8 did not pay on this processor when the bundle was quantized: {'; '.join(parts)}"
