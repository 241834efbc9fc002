"""Compile graphs for OpenVINO's processor plugin, with a limit on what it remembers."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from megavit.engine.signal_stack import keeping_signal_stack

if TYPE_CHECKING:
    import openvino as ov

MAX_KERNELS = 64
"""Of each compiled graph. OpenVINO (2026.4) makes kernels for every size of input and by itself keeps 5,000 of them,
which are gigabytes where each image has a size of its own; this many serve some sizes in turn as fast."""
_ONEDNN_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

_lock = threading.Lock()


def compile_for_cpu(graph: "ov.Model", settings: Mapping[str, str | int]) -> "ov.CompiledModel":
    """Return the graph compiled with `settings`, whose memory does not grow with the number of sizes that it meets."""
    import openvino as ov

    with keeping_signal_stack(), _without_onednn_cache():
        return ov.Core().compile_model(graph, "CPU", {"CPU_RUNTIME_CACHE_CAPACITY": str(MAX_KERNELS)} | dict(settings))


@contextmanager
def _without_onednn_cache() -> Iterator[None]:
    """Within, the kernels' own library is told to keep none: it would keep 1,024 more, some 300 MiB.

    OpenVINO's copy of that library reads the variable once, when the first graph is compiled; PyTorch's, whose speed
    needs them, must not.
    """
    with _lock:
        before = os.environ.get(_ONEDNN_CACHE)
        os.environ[_ONEDNN_CACHE] = before or "0"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_ONEDNN_CACHE]
