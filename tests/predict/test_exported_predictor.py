"""Exported models, used without PyTorch; that they answer as their bundles is in tests/exporting."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from megavit.errors import BundleError, ConfigError, ImageError
from megavit.predict.exported_predictor import ExportedPredictor, load_exported
from tests.helpers.export_cases import ExportCase, make_images


@pytest.fixture(scope="module")
def folder(export_case: ExportCase) -> Path:
    return export_case("onnx", "plain").folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> ExportedPredictor:
    return load_exported(folder)


def test_pytorch_is_not_imported(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(make_images(3)[0]).save(tmp_path / "a.png")
    program = (
        "import sys, megavit; model = megavit.load_exported(sys.argv[1]); answer = model.predict(sys.argv[2])\n"
        "from megavit.cli.app import run; assert run(['predict', *sys.argv[1:]]) == 0\n"
        "print(answer.label, *({'torch', 'torchvision', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(folder), str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("cat", "dog", "newt")


def test_every_kind_of_image_gives_the_same_answer(exported: ExportedPredictor, tmp_path: Path) -> None:
    pixels = make_images(3)[2]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    images = (path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels))
    assert len({exported.predict(image).probability for image in images}) == 1
    gray = Image.fromarray(pixels).convert("L")
    assert exported.predict(gray) == exported.predict(gray.convert("RGB"))
    clear = Image.fromarray(pixels).convert("RGBA")
    assert exported.predict(clear) == exported.predict(pixels)


def test_a_stream_goes_on_after_an_image_that_cannot_be_read(exported: ExportedPredictor) -> None:
    named = [("first", make_images(3)[0]), ("none", b"no image"), ("last", make_images(3)[1])]
    answers = list(exported.stream(named, coverage=0.9))
    assert [answer.name for answer in answers] == ["first", "none", "last"]
    assert answers[1].prediction is None and answers[1].error == "not an image"
    assert answers[2].prediction == exported.predict(make_images(3)[1], coverage=0.9)


def test_a_list_is_answered_as_its_images_are(exported: ExportedPredictor) -> None:
    images = [*make_images(3), *make_images(3, seed=1)]
    found = exported.predict(images, top=2)
    for one, image in zip(found, images, strict=True):
        alone = exported.predict(image, top=2)
        assert [name for name, _ in one.top] == [name for name, _ in alone.top]
        assert one.probability == pytest.approx(alone.probability, rel=1e-5)
    assert exported.predict([]) == [] and exported.embed([]).shape[0] == 0
    assert np.allclose(exported.embed(images), np.stack([exported.embed(image) for image in images]), atol=1e-5)
    with pytest.raises(ImageError, match="not an image"):
        exported.predict([images[0], b"no image"])


@pytest.mark.parametrize(("batch_size", "calls"), [(1, 64), (8, 8), (32, 2), (100, 1)])
def test_a_stream_gives_the_model_batches(batch_size: int, calls: int, exported: ExportedPredictor) -> None:
    sizes: list[int] = []

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(inputs))
        return exported.run(inputs)

    counted = ExportedPredictor(exported.folder, exported.info, run)
    named = [(str(place), make_images(3, 1, seed=place)[0]) for place in range(64)]
    answers = list(counted.stream(iter(named), batch_size=batch_size))
    assert [answer.name for answer in answers] == [name for name, _ in named]
    # A batch begins once no other image has come, so that there may be a few more.
    assert sum(sizes) == 64 and max(sizes) <= batch_size and calls <= len(sizes) <= max(calls, 32)


def test_large_pictures_are_not_all_given_at_once(exported: ExportedPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megavit.predict.exported_predictor.MAX_INPUT_VALUES", 3 * 40 * 40 * 2)
    sizes: list[int] = []

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(inputs))
        return exported.run(inputs)

    counted = ExportedPredictor(exported.folder, exported.info, run)
    images = [np.full((side, side, 3), 9, np.uint8) for side in (40, 90, 40, 90, 40)]
    assert len(counted.predict(images)) == 5
    assert sorted(sizes) == [1, 1, 1, 2]


def test_images_of_many_sizes_are_answered_in_their_order(exported: ExportedPredictor) -> None:
    prepared = [exported.prepare(one) for one in make_images(3)]
    found = exported.predict_prepared(prepared[::-1])[::-1]
    for one, (prediction, embedding) in zip(make_images(3), found, strict=True):
        assert prediction.label == exported.predict(one).label
        assert np.allclose(embedding, exported.embed(one), atol=1e-5)


def test_mistakes_are_told(exported: ExportedPredictor, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"coverages 0.8, 0.9, 0.95, 0.99, not 0.97"):
        exported.predict(make_images(3)[0], coverage=0.97)
    with pytest.raises(ImageError, match="2 channels"):
        exported.predict(np.zeros((9, 9, 2), np.uint8))
    with pytest.raises(ImageError, match="got dict"):
        exported.predict({})  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="create one with megavit export"):
        load_exported(tmp_path)
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1000])
    with pytest.raises(BundleError, match="export it again"):
        load_exported(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("", "model.onnx"),
        ('{"format": 99}', "newer than 1; update megavit"),
        ('{"format": 1, "name": "a"}', "is missing"),
        ('{"format": 1, "name": "a", "color": "red"}', "there is no such setting"),
    ],
)
def test_a_model_whose_words_about_itself_are_not_whole_is_refused(
    metadata: str, said: str, folder: Path, tmp_path: Path
) -> None:
    model = onnx.load(folder / "model.onnx")
    onnx.helper.set_model_props(model, {"megavit": metadata})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=said):
        load_exported(tmp_path)


def test_json_in_the_file_is_plain(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    [said] = [one.value for one in model.metadata_props if one.key == "megavit"]
    assert json.loads(said)["labels"] == ["cat", "dog", "newt"]


SIGNALS = """
import faulthandler, signal, subprocess, sys
faulthandler.enable()
import numpy as np
from megavit.engine.openvino_runtime import get_signal_stack
from megavit.predict.exported_predictor import load_exported
before = get_signal_stack()
models = [load_exported(sys.argv[1]) for _ in range(3)]
for model in models:
    model.predict(np.zeros((9, 9, 3), np.uint8))
    assert get_signal_stack() == before, "a model has left its stack behind"
del model
for place in (1, 0, 2):
    models[place] = None
    assert get_signal_stack() == before, "a model that ends has put another stack back"
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run(["true"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux alone it is known")
def test_signals_are_handled_after_models_ended(export_case: ExportCase) -> None:
    command = [sys.executable, "-c", SIGNALS, str(export_case("openvino", "plain").folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
