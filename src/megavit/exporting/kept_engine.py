"""Compile a bundle's graph, verify it against PyTorch, and keep it for commands that answer for a few images."""

import io
import shutil
from contextlib import suppress
from pathlib import Path

import openvino as ov

from megavit.config.export_info import PIXELS, ExportInfo
from megavit.config.serialization import to_dict
from megavit.engine.graph import can_build
from megavit.engine.openvino_runtime import compile_for_cpu
from megavit.errors import ExportError, OutputError
from megavit.exporting.metadata import export_info
from megavit.exporting.parity import check_parity, compare
from megavit.exporting.parity_images import load_reference_images
from megavit.exporting.targets.openvino import build_graph
from megavit.predict.engine_cache import GRAPH, RECORD, EngineCache, EngineRecord, open_graph
from megavit.predict.predictor import Predictor
from megavit.predict.runtimes import OPENVINO_SETTINGS
from megavit.runtime.storage import new_folder, sha256, write_file, writing

MAX_REFERENCE_IMAGES = 1
"""Images to compare, each of them also resized: who waits for the command to end waits for these."""
MAX_WEIGHT_BYTES = 2**29
"""Reading a larger model takes longer than importing PyTorch."""
MAX_CACHE_BYTES = 2**30
"""Size of all graphs, above which the least recently used are deleted."""


def keep_engine(cache: EngineCache, predictor: Predictor) -> None:
    """Write a graph that answers like the predictor of the unchanged bundle, or that there is none, to try only once.

    Does nothing if a graph was tried before, if the bundle has changed since, or if the cache cannot be written.
    """
    record = cache.read_record()
    if (record is not None and record.openvino) or not cache.is_unchanged():
        return
    with suppress(OutputError), writing("the compiled model", cache.folder), new_folder(cache.folder) as new:
        digest, info = None, {}
        if _can_keep(predictor):
            exported = export_info(predictor, PIXELS, "float32")
            if _write_graph(predictor, exported, new / GRAPH):
                digest, info = sha256(new / GRAPH), to_dict(exported)
            else:
                (new / GRAPH).unlink(missing_ok=True)
        record = EngineRecord(cache.made_for, ov.__version__, digest, info)
        write_file(new / RECORD, record.to_bytes())
    _delete_oldest(cache.folder.parent)


def _can_keep(predictor: Predictor) -> bool:
    info = predictor.info
    if info.ensemble or info.preprocessing.keep_aspect or not info.model.num_classes or not can_build(predictor.model):
        return False
    weights = list(predictor.model.parameters())
    return weights[0].device.type == "cpu" and sum(weight.nbytes for weight in weights) <= MAX_WEIGHT_BYTES


def _write_graph(predictor: Predictor, info: ExportInfo, path: Path) -> bool:
    """Write the compiled graph, and return whether it answers like PyTorch on a reference image of the bundle."""
    try:
        compiled = compile_for_cpu(build_graph(predictor, PIXELS, "float32"), OPENVINO_SETTINGS)
        stream = io.BytesIO()
        compiled.export_model(stream)
        path.write_bytes(stream.getbuffer())
        images = load_reference_images(predictor)[:MAX_REFERENCE_IMAGES]
        result = compare(predictor, open_graph(path), info, images, batch_sizes=(1,))
        check_parity(result, "float32", 0.0, "openvino")
    except (ExportError, RuntimeError):
        return False
    return not result.changed


def _delete_oldest(folder: Path) -> None:
    found = []
    for record in folder.glob(f"*/{RECORD}"):
        with suppress(OSError):  # deleted by another process
            found.append((record.stat().st_mtime, sum(file.stat().st_size for file in record.parent.iterdir()), record))
    kept = 0
    for _, size, record in sorted(found, reverse=True):
        kept += size
        if kept > MAX_CACHE_BYTES:
            shutil.rmtree(record.parent, ignore_errors=True)
