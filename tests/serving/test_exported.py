"""A model that was exported, served."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from megavit.exporting.export import export
from megavit.exporting.parity_images import ParityImage
from megavit.predict.predictor import Predictor
from tests.helpers.export_cases import make_predictor
from tests.helpers.servers import Running, megavit_serve, peak_above
from tests.serving.conftest import png
from tests.serving.test_faults import post_all


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Path]:
    """A predictor, and where it was exported to."""
    folder = tmp_path_factory.mktemp("exported")
    predictor = make_predictor(folder / "bundle", trusted=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    export(predictor, "openvino", folder / "animals", [ParityImage("noise", pixels)])
    return predictor, folder / "animals"


@pytest.fixture(scope="module")
def exported(made: tuple[Predictor, Path]) -> Iterator[Running]:
    with megavit_serve(made[1]) as server:
        yield server


def test_an_exported_model_predicts_like_its_bundle_without_pytorch(
    made: tuple[Predictor, Path], exported: Running
) -> None:
    predictor, server = made[0], exported
    (worker,) = server.workers()
    assert not [mapped.path for mapped in worker.memory_maps() if "libtorch" in mapped.path]
    (description,) = server.get("/models").json()["models"]
    assert (description["labels"], description["coverages"], description["explanation"], description["created"]) == (
        ["cat", "dog", "newt"],
        [0.8, 0.9, 0.95, 0.99],
        False,
        predictor.info.created,
    )
    for seed in range(3):
        (answer,) = server.post(png(seed), params={"top": 2, "coverage": 0.9, "embedding": 1}).json()["predictions"]
        assert answer.pop("embedding") == pytest.approx(predictor.embed(png(seed)).tolist(), rel=1e-2, abs=1e-3)
        expected = predictor.predict(png(seed), top=2, coverage=0.9)
        assert answer["label"] == expected.label
        assert answer["probability"] == pytest.approx(expected.probability, abs=2e-3)
        assert [one["label"] for one in answer["prediction_set"]] == [one[0] for one in expected.prediction_set or ()]
        assert answer["out_of_distribution"] == expected.out_of_distribution
    reply = server.post(png(), params={"explanation": 1})
    assert (reply.status_code, "does not support explanations" in reply.json()["error"]["message"]) == (422, True)
    assert server.post(png(), params={"coverage": 0.33}).status_code == 422
    assert server.post(b"no image").status_code == 422


def test_large_images_are_computed_in_bounded_memory(exported: Running) -> None:
    large = png(size=(1990, 1990), color=(200, 30, 60))
    alone = exported.post(large).json()
    with peak_above(exported.workers()[0].pid, most_mib=300):  # 1,400 and more where they all wait and go together
        replies = post_all(exported, [large] * 24)
    assert [reply.json() for reply in replies] == [alone] * 24
