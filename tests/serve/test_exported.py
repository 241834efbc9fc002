"""A model that was exported, served."""

from pathlib import Path

import numpy as np
import pytest

from megavit.export.export import export
from megavit.export.proofs import Proof
from tests.export.cases import make_predictor
from tests.serve.conftest import png
from tests.serve.servers import megavit_serve


def test_an_exported_model_answers_as_its_bundle_without_pytorch(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "bundle", trusted=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    export(predictor, "openvino", tmp_path / "out", [Proof("noise", pixels)])
    with megavit_serve(f"animals={tmp_path / 'out'}") as server:
        (worker,) = server.workers()
        assert not [mapped.path for mapped in worker.memory_maps() if "libtorch" in mapped.path]
        (told,) = server.get("/models").json()["models"]
        assert (told["labels"], told["coverages"], told["explanation"], told["created"]) == (
            ["cat", "dog", "newt"],
            True,
            False,
            predictor.info.created,
        )
        for seed in range(3):
            (answer,) = server.post(png(seed), params={"top": 2, "coverage": 0.9, "embedding": 1}).json()["answers"]
            assert answer.pop("embedding") == pytest.approx(predictor.embed(png(seed)).tolist(), rel=1e-2, abs=1e-3)
            expected = predictor.predict(png(seed), top=2, coverage=0.9)
            assert answer["label"] == expected.label
            assert answer["probability"] == pytest.approx(expected.probability, abs=2e-3)
            assert [one["label"] for one in answer["prediction_set"]] == [
                one[0] for one in expected.prediction_set or ()
            ]
            assert answer["unlike_training"] == expected.unlike_training
        reply = server.post(png(), params={"explanation": 1})
        assert (reply.status_code, "gives no explanations" in reply.json()["error"]["message"]) == (422, True)
        assert server.post(png(), params={"coverage": 0.33}).status_code == 422
        assert server.post(b"no image").status_code == 422
