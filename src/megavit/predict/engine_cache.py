"""Answer for a few images without PyTorch, by a graph of the bundle that an earlier command has compiled and verified.

CACHE/engines/KEY/graph.bin     the compiled graph, with the inputs and outputs of an OpenVINO export
CACHE/engines/KEY/engine.json   what it was compiled for, its SHA-256 and an export's metadata, below their own SHA-256

KEY is that of the bundle's folder. A graph for another state of the bundle, of the machine or of the libraries, or one
that is damaged, is ignored; `megavit.exporting.kept_engine` then writes another. It does so in the second command that
answers for the bundle. The first only leaves a record of itself: most of the time in which it would compile a graph
would be lost where no second one comes, or where the cache is not kept, as in a container.
"""

import hashlib
import json
import mmap
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from megavit import __version__
from megavit.config.export_info import MODEL_FILES
from megavit.errors import OutputError
from megavit.runtime.cache import cache_folder
from megavit.runtime.processors import available_cpus, describe_processor
from megavit.runtime.storage import new_folder, write_file, writing

if TYPE_CHECKING:
    from megavit.predict.exported_predictor import ExportedPredictor
    from megavit.predict.runtimes import CompiledGraph

FORMAT = 1
GRAPH, RECORD = "graph.bin", "engine.json"
BUNDLE_INFO = "megavit.json"

MAX_IMAGES = 64
MAX_IMAGE_BYTES = 2**26
"""With more images, or larger files, loading PyTorch takes little of the time, and it is faster then."""


class EngineRecord(NamedTuple):
    """The contents of `engine.json`.

    Attributes:
        made_for: `EngineCache.made_for` when the graph was compiled.
        openvino: version of OpenVINO; empty if no command has tried to compile a graph yet.
        sha256: SHA-256 of the graph; None if there is none because the bundle cannot be compiled, or did not answer as
            PyTorch does.
        info: metadata as of an export, as plain values; empty without a graph.
    """

    made_for: dict[str, Any]
    openvino: str
    sha256: str | None
    info: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the contents of the file."""
        text = json.dumps(self._asdict()).encode()
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text

    @classmethod
    def from_bytes(cls, content: bytes) -> "EngineRecord | None":
        """Return the record in a file, or None if it is damaged."""
        digest, _, text = content.partition(b"\n")
        if digest != hashlib.sha256(text).hexdigest().encode():
            return None
        with suppress(TypeError):  # of another version
            return cls(**json.loads(text))
        return None


class EngineCache:
    """The place of a bundle's compiled graph in the cache.

    Attributes:
        bundle: folder of the bundle.
        folder: folder of the graph, which need not exist.
        made_for: state of the bundle, of megavit and of the machine, by which a graph is recognized as theirs.
    """

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        resolved = str(bundle.resolve())
        self.folder = cache_folder() / "engines" / hashlib.sha256(os.fsencode(resolved)).hexdigest()[:16]
        self.made_for = self._describe(resolved)

    def is_unchanged(self) -> bool:
        """Return whether the bundle is in the state that it was in when this object was made."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # removed or overwritten meanwhile
            return self._describe(self.made_for["folder"]) == self.made_for
        return False

    def read_record(self) -> EngineRecord | None:
        """Return the record of a graph for this state of the bundle and the machine, or None."""
        try:
            record = EngineRecord.from_bytes((self.folder / RECORD).read_bytes())
        except OSError:
            return None
        return record if record is not None and record.made_for == self.made_for else None

    def note_command(self) -> bool:
        """Return whether another command has answered for this state before; if not, note that this one has."""
        if self.read_record() is not None:
            return True
        with suppress(OutputError), writing("the compiled model", self.folder), new_folder(self.folder) as new:
            write_file(new / RECORD, EngineRecord(self.made_for, "", None, {}).to_bytes())
        return False

    def open(self, coverage: float | None = None) -> "EngineOpening | None":
        """Begin to open the graph, and return that, or None if there is none for this machine and for `coverage`."""
        record = self.read_record()
        if record is None or record.sha256 is None:
            return None
        if coverage is not None and str(coverage) not in (
            record.info.get("sets") or record.info.get("intervals") or {}
        ):
            return None
        return EngineOpening(self.folder, record)

    def _describe(self, resolved: str) -> dict[str, Any]:
        content = (self.bundle / BUNDLE_INFO).read_bytes()
        files = {name: os.stat(self.bundle / name) for name in json.loads(content)["files"]}  # noqa: PTH116 - as bytes
        return {
            "format": FORMAT,
            "megavit": __version__,
            "processor": describe_processor(),
            "folder": resolved,
            "bundle": hashlib.sha256(content).hexdigest(),
            # Their contents were compared with the digests in the bundle when the graph was made.
            "files": {name: [stat.st_size, stat.st_mtime_ns] for name, stat in files.items()},
        }


class EngineOpening:
    """A graph that another thread checks and opens, while this one imports what else a prediction needs."""

    def __init__(self, folder: Path, record: EngineRecord) -> None:
        self._folder, self._record = folder, record
        self._graph: CompiledGraph | None = None
        # NumPy's OpenBLAS would start threads that spin for a while, on the processors that both threads here need.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
        self._thread = threading.Thread(target=self._open)  # no daemon: OpenVINO must not be stopped amid it
        self._thread.start()
        with suppress(ImportError):
            _import_openvino()  # here, as this takes about as long as the other thread takes to check the graph

    def result(self) -> "ExportedPredictor | None":
        """Wait for the graph, and return a predictor that runs it, or None if it cannot be used."""
        from megavit.predict.exported_predictor import ExportedPredictor

        info = _export_info(self._record.info)
        self._thread.join()
        if self._graph is None:
            return None
        with suppress(OSError):  # the cache may be read-only
            os.utime(self._folder / RECORD)  # the least recently used are deleted first
        return ExportedPredictor(self._folder, info, self._graph)

    def _open(self) -> None:
        path = self._folder / GRAPH
        try:
            if _sha256_at_once(path) == self._record.sha256 and _import_openvino() == self._record.openvino:
                self._graph = open_graph(path)
        except (ImportError, OSError, RuntimeError, ValueError):
            return  # OpenVINO raises a RuntimeError for a graph of another build


def find_engine(folder: Path) -> EngineCache | None:
    """Return the place in the cache for the bundle in `folder` or `folder/bundle`, or None if there is none.

    There is none for a folder without an intact bundle, and none if the cache is switched off.
    """
    if cache_folder().exists() and not cache_folder().is_dir():
        return None
    if any((folder / name).is_file() for name in MODEL_FILES):  # an exported model
        return None
    for candidate in (folder, folder / "bundle"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # what loading the bundle reports
            return EngineCache(candidate)
    return None


def open_graph(path: Path) -> "CompiledGraph":
    """Open a compiled graph; OpenVINO raises a RuntimeError if it cannot be used."""
    import numpy as np
    import openvino as ov

    from megavit.engine.openvino_runtime import import_for_cpu, thread_settings
    from megavit.predict.runtimes import OPENVINO_SETTINGS, CompiledGraph

    content = np.memmap(path, np.uint8, "c")  # OpenVINO takes only what may be written
    settings = OPENVINO_SETTINGS | thread_settings(available_cpus())
    return CompiledGraph(import_for_cpu(ov.Tensor(content, shared_memory=True), settings), content)


def are_few(images: Sequence[str]) -> bool:
    """Return whether the images that a command names are at most `MAX_IMAGES` files of `MAX_IMAGE_BYTES` together."""
    from megavit.predict.input_sources import is_shard_source, iter_images
    from megavit.predict.standard_input import STANDARD_INPUT

    if STANDARD_INPUT in images or any(map(is_shard_source, images)):
        return False
    found = [source for _, source in islice(iter_images(images, sys.stdin.buffer), MAX_IMAGES + 1)]
    sizes = []
    for path in found:
        with suppress(OSError, ValueError):  # reading it says why
            sizes.append(path.stat().st_size if isinstance(path, Path) else 0)
    return len(found) <= MAX_IMAGES and sum(sizes) <= MAX_IMAGE_BYTES


def _sha256_at_once(path: Path) -> str:
    """Return the SHA-256 of a file, read without Python in between, which would wait for the imports each time."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()


def _import_openvino() -> str:
    """Import OpenVINO without its converter of other libraries' models, half of its time, and return its version."""
    converter = "openvino.tools.ovc"
    is_blocked = "openvino" not in sys.modules and sys.modules.setdefault(converter, None) is None  # type: ignore[arg-type]
    try:
        import megavit.engine.openvino_runtime  # noqa: F401 - silences OpenVINO

        import openvino  # isort: skip
    finally:
        if is_blocked:
            sys.modules.pop(converter, None)
    return openvino.__version__


def _export_info(table: dict[str, Any]) -> Any:
    """Return the `ExportInfo` of a record whose digest is right, without the time that checking it anew would take."""
    from megavit.config.export_info import ExportInfo
    from megavit.config.preprocessing import Preprocessing

    preprocessing: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in table["preprocessing"].items()
    }
    return ExportInfo(**(table | {"preprocessing": Preprocessing(**preprocessing)}))
