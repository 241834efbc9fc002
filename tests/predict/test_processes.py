"""Models in other processes than the one that loaded them: forked, spawned, and by joblib."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.errors import BundleError, ConfigError
from megavit.predict.exported_predictor import load_exported
from megavit.predict.predictor import load, with_aspect_kept
from megavit.weights.bundle.bundle import load_bundle
from tests.helpers.export_cases import ExportCase, make_images


@pytest.fixture(scope="module")
def place(export_case: ExportCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and what it was exported to."""
    folder = tmp_path_factory.mktemp("processes")
    for target in ("onnx", "openvino"):
        made = export_case(target, "plain")
        (folder / target).symlink_to(made.folder)
    (folder / "bundle").symlink_to(made.folder.parent / "flowers")
    return folder


# A hang is found by the parent, which has nothing else to go by.
SEVERAL = """
import functools, json, multiprocessing, os, signal, sys, time
import numpy as np

def answers(model, images):
    return [one.probability for one in model.predict(images)]

def streamed(model, images):
    return [one.prediction.probability for one in model.stream(enumerate(images))]

def in_process(context, work):
    queue = context.Queue()
    child = context.Process(target=put, args=(queue, work))
    child.start()
    try:
        found = queue.get(timeout=600)
    finally:
        child.kill()
    child.join()
    return found

def put(queue, work):
    queue.put(work())

def main():
    folder = sys.argv[1]
    found = {kind: of_kind(folder, kind) for kind in ("onnx", "openvino", "engine")}
    json.dump(found, open(sys.argv[2], "w"))

def of_kind(folder, kind):
    import megavit
    if kind in ("onnx", "openvino"):
        model = megavit.load_exported(f"{folder}/{kind}")
    else:
        import torch
        torch.set_num_threads(2)
        model = megavit.load(f"{folder}/bundle", device="cpu")
        model.engine.patience = 0
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (300, 300, 3), dtype=np.uint8) for _ in range(40)]
    expected = answers(model, images), streamed(model, images)
    found = {"here": expected}
    for way, works in {"fork": (answers, streamed), "spawn": (streamed,)}.items():
        context = multiprocessing.get_context(way)
        found[way] = [in_process(context, functools.partial(work, model, images[:12])) for work in works]
    from joblib import Parallel, delayed
    found["loky"] = Parallel(n_jobs=2, timeout=600)(delayed(work)(model, images[:12]) for work in (answers, streamed))
    return found

if __name__ == "__main__":
    main()
"""


def test_a_model_answers_in_every_kind_of_other_process(place: Path, tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(SEVERAL)
    command = [sys.executable, "several.py", str(place), str(tmp_path / "found.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}  # of one thread there is nothing to wait for
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for kind, found in json.loads((tmp_path / "found.json").read_text()).items():
        assert found.keys() == {"here", "fork", "spawn", "loky"}
        for way, both in found.items():
            for answers in both:
                assert answers[:12] == pytest.approx(found["here"][0][:12], abs=1e-5), (kind, way)


def test_a_predictor_is_pickled_as_its_folder_with_its_settings(place: Path) -> None:
    predictor = load(place / "bundle", device="cpu", precision="float32")
    written = pickle.dumps(predictor)
    assert len(written) < 20_000
    image = make_images(3)[0]
    assert pickle.loads(written).predict(image) == predictor.predict(image)
    bundle = load_bundle(place / "bundle")
    kept = type(predictor)(with_aspect_kept(bundle), torch.device("cpu"))
    again = pickle.loads(pickle.dumps(kept))
    assert again.info.preprocessing.keep_aspect and again.predict(image) == kept.predict(image)


@pytest.mark.parametrize("kind", ["bundle", "onnx"])
def test_what_is_unpickled_is_the_model_that_was_pickled_or_nothing(
    kind: str, place: Path, export_case: ExportCase, tmp_path: Path
) -> None:
    opened: Any = load if kind == "bundle" else load_exported
    shutil.copytree(place / kind, tmp_path / kind)
    written = pickle.dumps(opened(tmp_path / kind))
    shutil.rmtree(tmp_path / kind)
    with pytest.raises(BundleError, match=r"does not exist|has no exported model"):
        pickle.loads(written)
    other = export_case("onnx", "multilabel, rotary").folder
    shutil.copytree(other if kind == "onnx" else other.parent / "flowers", tmp_path / kind)
    with pytest.raises(BundleError, match="is not the one that was pickled"):
        pickle.loads(written)


def test_weights_that_were_changed_are_not_lost_in_silence(place: Path) -> None:
    predictor = load(place / "bundle", device="cpu")
    with torch.no_grad():
        next(predictor.model.parameters()).mul_(2)
    with pytest.raises(ConfigError, match="changed after it was loaded"):
        pickle.dumps(predictor)


def test_the_memory_of_an_openvino_model_does_not_grow_with_the_sizes_it_meets(place: Path, tmp_path: Path) -> None:
    program = """
import sys, numpy as np, megavit
from pathlib import Path
model = megavit.load_exported(sys.argv[1])
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20
random = np.random.default_rng(0)
for count in range(1, 401):
    model.predict(np.zeros((*random.integers(20, 200, 2), 3), np.uint8))
    if count in (100, 400):
        print(resident())
"""
    command = [sys.executable, "-c", program, str(place / "openvino")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late - early < 40, "without a limit it is above 150 MiB"
