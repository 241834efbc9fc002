"""An ensemble is served like other bundles, but without explanations."""

import io
from pathlib import Path

import pytest
from PIL import Image

from megavit.errors import ConfigError
from megavit.predict.predictor import load
from megavit.serving.backends.predictor import PredictorBackend
from megavit.serving.settings import PredictOptions, WorkerSettings
from tests.helpers.bundles import save_ensemble


def test_an_ensemble_predicts_and_refuses_explanations(tmp_path: Path) -> None:
    folder = save_ensemble(tmp_path / "bundle")
    settings = WorkerSettings(
        source=str(folder),
        device="cpu",
        precision="float32",
        keep_aspect=False,
        max_batch_size=4,
        max_pixels=10**6,
        max_batch_seconds=1.0,
    )
    backend = PredictorBackend(settings)
    assert backend.describe()["explanation"] is False
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 90)).save(file, "PNG")
    options = PredictOptions(embedding=True)
    prepared = backend.preprocess(file.getvalue(), options, 10**6)
    (found,) = backend.predict([prepared], [options])
    expected = load(folder).predict(file.getvalue())
    assert found["label"] == expected.label and len(found["embedding"]) == 8
    assert found["probability"] == pytest.approx(expected.probability)
    with pytest.raises(ConfigError, match="serve the run of one of its folds"):
        backend.preprocess(file.getvalue(), PredictOptions(explanation=True), 10**6)
