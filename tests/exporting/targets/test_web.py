"""The page that `megavit export --to web` writes, in a real browser: the answers of the bundle."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from sklearn.datasets import load_sample_images

from megavit.errors import ConfigError
from megavit.exporting.export import export
from megavit.exporting.parity_images import ParityImage
from tests.helpers.browser import OpenPage
from tests.helpers.export_cases import make_images, make_predictor
from tests.helpers.fake_server import serve_fake
from tests.page.test_by_model import ASK


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=pytest.mark.drill)])  # also in tests/page
def test_the_page_answers_as_the_bundle(channels: int, tmp_path: Path, runtime: Path, open_page: OpenPage) -> None:
    predictor = make_predictor(tmp_path / "flowers", True, channels=channels)
    real = make_images(3)
    found = export(predictor, "web", tmp_path / "out", [ParityImage("a", one) for one in real], runtime=runtime)
    assert found.output_error < 1e-4
    with serve_fake(None, tmp_path / "out") as address:
        page = open_page(address)
        expect(page.get_by_role("button", name="Choose images")).to_be_visible()
        for pixels in (*real, *load_sample_images().images):
            picture = png(pixels)
            expected = predictor.predict(picture, coverage=0.9).to_dict()
            answer = page.evaluate(ASK, [base64.b64encode(picture).decode(), {"top": 5, "coverage": 0.9}])
            assert answer["label"] == expected["label"]
            assert answer["out_of_distribution"] == expected["out_of_distribution"]
            for name in ("top", "prediction_set"):
                assert [one["label"] for one in answer[name]] == [one["label"] for one in expected[name]]
                shares = [[one["probability"] for one in side[name]] for side in (answer, expected)]
                assert shares[0] == pytest.approx(shares[1], abs=1e-4)


def test_a_folder_that_is_no_runtime_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "flowers")
    with pytest.raises(ConfigError, match=r"has no ort\.wasm\.min\.mjs"):
        export(predictor, "web", tmp_path / "out", [ParityImage("a", make_images(3)[0])], runtime=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["flowers"]


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    predictor = make_predictor(tmp_path / "flowers")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"was not found: install it, or .* --onnxruntime-web"):
        export(predictor, "web", tmp_path / "out", [ParityImage("a", make_images(3)[0])])
