"""A command on a few images answers by a kept graph, as with PyTorch, or else with PyTorch."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from PIL import Image

from megavit.exporting import kept_engine
from megavit.exporting.kept_engine import keep_engine
from megavit.predict import engine_cache
from megavit.predict.engine_cache import GRAPH, RECORD, EngineCache, EngineRecord, are_few, find_engine
from megavit.predict.exported_predictor import ExportedPredictor
from megavit.predict.predictor import Predictor, load
from megavit.runtime.storage import sha256
from tests.helpers.bundles import make_bundle, save_ensemble
from tests.helpers.command_line import run_megavit
from tests.helpers.export_cases import load_with_pytorch, make_images, make_predictor


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle that nothing changes."""
    folder = tmp_path_factory.mktemp("kept") / "flowers"
    make_predictor(folder, trusted=True)
    return folder


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to change."""
    return Path(shutil.copytree(bundle, tmp_path / "own"))


def kept(folder: Path, predictor: Predictor | None = None) -> EngineCache:
    cache = find_engine(folder)
    assert cache is not None
    keep_engine(cache, predictor or load_with_pytorch(folder))
    return cache


def opened(cache: EngineCache, coverage: float | None = None) -> ExportedPredictor | None:
    opening = cache.open(coverage)
    return None if opening is None else opening.result()


def write_images(folder: Path) -> list[Path]:
    """Images of several sizes and kinds, and two that cannot be read."""
    paths = []
    for index, pixels in enumerate(make_images(3)):
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    for mode in ("L", "RGBA", "I;16"):
        paths.append(folder / f"{mode.replace(';', '')}.png")
        Image.fromarray(make_images(3)[1]).convert("L").convert(mode).save(paths[-1])
    np.save(folder / "five.npy", np.zeros((9, 9, 5), np.uint8))
    (folder / "text.jpg").write_bytes(b"no image")
    return [*paths, folder / "five.npy", folder / "text.jpg", folder / "none.jpg"]


@pytest.mark.parametrize("coverage", [None, 0.9])
def test_answers_and_errors_are_those_of_pytorch(cache, bundle, tmp_path, coverage):
    exported = opened(kept(bundle), coverage)
    assert exported is not None
    images = [(path.name, path) for path in write_images(tmp_path)]
    expected = [found.to_dict() for found in load_with_pytorch(bundle).stream(images, coverage=coverage)]
    found = [found.to_dict() for found in exported.stream(images, coverage=coverage)]
    assert {"error"} < {key for one in expected for key in one}
    for ours, theirs in zip(found, expected, strict=True):
        assert rounded(ours) == rounded(theirs)


def rounded(value):
    match value:
        case float():
            return pytest.approx(value, abs=1e-5)
        case dict():
            return {key: rounded(one) for key, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
    return value


def test_the_third_command_imports_no_pytorch_and_prints_the_same(cache, bundle, tmp_path):
    Image.fromarray(make_images(3)[0]).save(tmp_path / "a.png")
    arguments = ["predict", str(bundle), str(tmp_path / "a.png")]
    answers = []
    for is_kept in (False, True):
        answers.append(run_megavit(*arguments, cwd=tmp_path).stdout)
        record = EngineCache(bundle).read_record()
        assert record is not None and (record.sha256 is not None) == is_kept
        assert (EngineCache(bundle).folder / GRAPH).exists() == is_kept  # the first pays for no second one
    script = (
        "import sys\n"
        "from megavit.cli.app import run\n"
        "code = run(sys.argv[1:])\n"
        "heavy = {'torch', 'pydantic', 'sklearn', 'openvino.tools.ovc', 'PIL.PdfImagePlugin', 'rich.progress'}\n"
        "print(heavy & set(sys.modules) or 'nothing', file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    third = subprocess.run(command, capture_output=True, text=True, check=True)
    assert third.stderr == "nothing\n"
    assert [third.stdout, third.stdout] == answers and third.stdout.count("\n") == 1


def test_a_bundle_that_changed_after_the_first_command_starts_anew(cache, own):
    assert not EngineCache(own).note_command() and EngineCache(own).note_command()
    change_weights(own)
    assert not EngineCache(own).note_command() and opened(EngineCache(own)) is None
    assert opened(kept(own)) is not None and EngineCache(own).note_command()


def test_a_cache_that_cannot_be_written_is_no_error(cache, bundle):
    cache.mkdir()
    (cache / "engines").write_bytes(b"a file")
    assert not EngineCache(bundle).note_command() and opened(kept(bundle)) is None


def change_weights(folder: Path) -> None:
    os.utime(folder / "model.safetensors", ns=(0, 0))


def change_info(folder: Path) -> None:
    make_bundle(folder)


def damage_graph(folder: Path) -> None:
    path = EngineCache(folder).folder / GRAPH
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_record(folder: Path) -> None:
    path = EngineCache(folder).folder / RECORD
    path.write_bytes(path.read_bytes().replace(b"cat", b"dog"))


def empty_graph(folder: Path) -> None:
    rewrite(folder, b"")


def wrong_graph(folder: Path) -> None:
    rewrite(folder, b"of another build" * 99)


def rewrite(folder: Path, graph: bytes) -> None:
    cache = EngineCache(folder)
    record = cache.read_record()
    assert record is not None
    (cache.folder / GRAPH).write_bytes(graph)
    record = record._replace(sha256=sha256(cache.folder / GRAPH))
    (cache.folder / RECORD).write_bytes(record.to_bytes())


def other_openvino(folder: Path) -> None:
    cache = EngineCache(folder)
    record = cache.read_record()
    assert record is not None
    (cache.folder / RECORD).write_bytes(record._replace(openvino="2020.1").to_bytes())


def no_graph(folder: Path) -> None:
    (EngineCache(folder).folder / GRAPH).unlink()


CHANGES = (change_weights, change_info, damage_graph, damage_record, empty_graph, wrong_graph, other_openvino, no_graph)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_stale_or_damaged_is_not_used(cache, own, change):
    assert opened(kept(own)) is not None
    change(own)
    assert opened(EngineCache(own)) is None


def test_another_processor_has_a_graph_of_its_own(cache, own, monkeypatch):
    kept(own)
    monkeypatch.setattr(engine_cache, "describe_processor", lambda: "another")
    assert opened(EngineCache(own)) is None
    assert opened(kept(own)) is not None


def test_a_coverage_that_is_not_in_it_is_left_to_the_bundle(cache, bundle):
    assert opened(kept(bundle), 0.93) is None
    with_its_own = run_megavit("predict", bundle, "none.jpg", "--coverage", "0.93", cwd=cache.parent)
    assert with_its_own.returncode == 2 and "cannot be read: no such file" in with_its_own.stdout


def test_a_graph_that_answers_otherwise_is_refused_and_tried_once(cache, own, tmp_path, monkeypatch):
    other = load(make_predictor(tmp_path / "other", trusted=True, depth=1).folder, device="cpu")
    built = []

    def build_another(*arguments) -> ov.Model:
        built.append(arguments)
        return build(other, *arguments[1:])

    build = kept_engine.build_graph
    monkeypatch.setattr(kept_engine, "build_graph", build_another)
    for _ in range(2):
        assert opened(kept(own)) is None
    assert len(built) == 1
    record = EngineCache(own).read_record()
    assert record is not None and record.sha256 is None and not (EngineCache(own).folder / GRAPH).exists()


def test_a_bundle_that_changed_meanwhile_keeps_none(cache, own):
    engine, predictor = find_engine(own), load_with_pytorch(own)
    assert engine is not None
    change_weights(own)
    keep_engine(engine, predictor)
    assert not engine.folder.exists()


@pytest.mark.parametrize("remove", [shutil.rmtree, lambda folder: (folder / "megavit.json").write_bytes(b"{")])
def test_a_bundle_that_is_gone_meanwhile_keeps_none_and_raises_nothing(cache, own, remove):
    predictor, place = load_with_pytorch(own), find_engine(own)
    assert place is not None
    remove(own)
    keep_engine(place, predictor)
    assert not place.folder.exists()


@pytest.mark.parametrize("reason", ["an ensemble", "the aspect is kept", "its size"])
def test_what_cannot_be_compiled_keeps_none_and_is_tried_once(cache, own, tmp_path, monkeypatch, reason):
    folder = save_ensemble(tmp_path / "ensemble") if reason == "an ensemble" else own
    predictor = load(folder, device="cpu")
    if reason == "the aspect is kept":
        preprocessing = replace(predictor.info.preprocessing, keep_aspect=True, patch_size=4)
        predictor.info = replace(predictor.info, preprocessing=preprocessing)
    if reason == "its size":
        monkeypatch.setattr(kept_engine, "MAX_WEIGHT_BYTES", 1)
    assert opened(kept(folder, predictor)) is None
    record = EngineCache(folder).read_record()
    assert record is not None and record.openvino
    monkeypatch.setattr(kept_engine, "_can_keep", None)
    kept(folder, predictor)


def test_the_least_recently_used_are_deleted(cache, own, bundle, monkeypatch):
    first = kept(own)
    os.utime(first.folder / RECORD, (0, 0))
    monkeypatch.setattr(kept_engine, "MAX_CACHE_BYTES", 1.5 * (first.folder / GRAPH).stat().st_size)
    second = kept(bundle)
    assert not first.folder.exists() and opened(second) is not None


def test_there_is_none_without_a_cache_or_a_bundle(cache, bundle, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").touch()
    assert find_engine(tmp_path) is None and find_engine(tmp_path / "missing") is None
    run = tmp_path / "run"
    run.mkdir()
    (run / "bundle").symlink_to(bundle)
    found = find_engine(run)
    assert found is not None and found.folder == EngineCache(bundle).folder
    monkeypatch.setenv("MEGAVIT_CACHE", os.devnull)
    assert find_engine(bundle) is None


def test_few_images_are_files_and_not_large(tmp_path, monkeypatch):
    for index in range(engine_cache.MAX_IMAGES):
        (tmp_path / f"{index}.jpg").write_bytes(b"image")
    assert are_few([str(tmp_path)]) and are_few(["missing.jpg", "\0", str(tmp_path / "0.jpg")])
    assert not are_few([str(tmp_path), "missing.jpg"]) and not are_few(["-"]) and not are_few(["some.tar"])
    monkeypatch.setattr(engine_cache, "MAX_IMAGE_BYTES", 9)
    assert are_few([str(tmp_path / "0.jpg")]) and not are_few([str(tmp_path / f"{index}.jpg") for index in range(2)])


def test_a_record_of_another_version_is_none():
    record = EngineRecord({}, "2026", None, {})
    assert EngineRecord.from_bytes(record.to_bytes()) == record
    digest, _, text = record.to_bytes().partition(b"\n")
    for content in (b"", digest, digest + b"\n" + text[1:]):
        assert EngineRecord.from_bytes(content) is None
    other = json.dumps({"kind": "of a later version"}).encode()
    assert EngineRecord.from_bytes(hashlib.sha256(other).hexdigest().encode() + b"\n" + other) is None
