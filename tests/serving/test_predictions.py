"""What a real model answers over HTTP."""

import base64
import io
from pathlib import Path

import httpx
import pytest
import torch
from PIL import Image

import megavit
from megavit.predict.predictor import Predictor
from tests.helpers.servers import Running
from tests.serving.conftest import png


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return megavit.load(bundle, device="cpu")


def close(found: object, expected: object) -> bool:
    """The same but for float32's last digits, which may differ by the size of a batch."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(close(found[k], expected[k]) for k in expected)
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(close, found, expected))
    return found == pytest.approx(expected, rel=1e-4, abs=1e-6) if isinstance(expected, float) else found == expected


def test_the_prediction_of_an_image_is_that_of_the_predictor(server: Running, predictor: Predictor) -> None:
    reply = server.post(png(1), params={"top": 2, "coverage": 0.9})
    assert reply.status_code == 200
    expected = predictor.predict(png(1), top=2, coverage=0.9).to_dict()
    assert {"label", "probability", "top", "prediction_set", "out_of_distribution"} == expected.keys()
    (answer,) = reply.json()["predictions"]
    assert reply.json()["model"] == "animals"
    assert close(answer, {"filename": None, **expected})


def test_many_images_keep_their_order_and_a_bad_one_fails_alone(server: Running, predictor: Predictor) -> None:
    files = [("images", (f"{i}.png", png(i))) for i in range(40)]
    files[7] = ("images", ("7.png", b"no image"))
    with server.client() as client:
        reply = client.post("/predict", files=files)
    assert reply.status_code == 200
    answers = reply.json()["predictions"]
    assert [answer["filename"] for answer in answers] == [f"{i}.png" for i in range(40)]
    assert answers[7] == {"filename": "7.png", "error": "not an image"}
    for i in {*range(40)} - {7}:
        assert close(answers[i], {"filename": f"{i}.png", **predictor.predict(png(i)).to_dict()})


def test_embedding_and_explanation_are_added_on_request(server: Running, predictor: Predictor) -> None:
    (answer,) = server.post(png(2), params={"embedding": "true", "explanation": "true"}).json()["predictions"]
    assert torch.allclose(torch.tensor(answer["embedding"]), predictor.embed(png(2)), rtol=1e-4, atol=1e-5)
    overlay = Image.open(io.BytesIO(base64.b64decode(answer["explanation"])))
    expected = megavit.explain_image(predictor, png(2)).overlay()
    assert overlay.format == "PNG"
    assert overlay.size == expected.size
    pixels = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int() for image in (overlay, expected)]
    assert (pixels[0] - pixels[1]).abs().max() <= 2


def test_each_model_has_its_address_and_the_first_one_the_short_one(server: Running) -> None:
    assert server.post(png(), "/models/age/predict").json()["predictions"][0].keys() == {"filename", "score"}
    by_name, short = (server.post(png(), path).json() for path in ("/models/animals/predict", "/predict"))
    assert by_name["model"] == short["model"] == "animals"
    # Between the two, another runtime may have been found to be faster.
    assert all(close(*pair) for pair in zip(by_name["predictions"], short["predictions"], strict=True))
    reply = server.post(png(), "/models/other/predict")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    assert "animals, age" in reply.json()["error"]["message"]


def test_models_are_described(server: Running) -> None:
    animals, age = server.get("/models").json()["models"]
    created = animals.pop("created")
    assert created.startswith("2026")
    assert animals == {
        "name": "animals",
        "target": "classification",
        "labels": ["cat", "dog", "newt"],
        "height": 8,
        "width": 8,
        "channels": 3,
        "coverages": [0.8, 0.9, 0.95, 0.99],
        "explanation": True,
        "ready": True,
    }
    assert (age["target"], age["labels"], age["coverages"]) == ("regression", [], [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "the file is empty"), (b"hello", "not an image"), (png()[:-20], "damaged or truncated")],
)
def test_a_single_image_that_cannot_be_read_is_422_with_the_reason(server: Running, body: bytes, reason: str) -> None:
    reply = server.post(body)
    assert reply.status_code == 422
    assert reply.json() == {"error": {"code": "unprocessable_content", "message": reason}}


def test_too_many_pixels_are_refused_before_they_are_decoded(server: Running) -> None:
    content = io.BytesIO()
    Image.new("L", (1001, 1000)).save(content, format="PNG")
    reply = server.post(content.getvalue())
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        422,
        "1001 × 1000 pixels exceed the limit of 1 million",
    )


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("top=0", "top"),
        ("top=1001", "top"),
        ("top=two", "top"),
        ("coverage=1", "coverage"),
        ("coverage=nan", "coverage"),
        ("embedding=perhaps", "embedding"),
        ("color=red", "color"),
    ],
)
def test_a_wrong_parameter_is_422_and_named(server: Running, query: str, named: str) -> None:
    reply = server.post(png(), f"/predict?{query}")
    assert reply.status_code == 422
    assert named in reply.json()["error"]["message"]


def test_a_coverage_that_the_model_cannot_promise_is_422(server: Running) -> None:
    reply = server.post(png(), "/models/age/predict?coverage=0.9")
    assert reply.status_code == 422
    assert "no coverage" in reply.json()["error"]["message"]
    files = [("images", ("a.png", png())), ("images", ("b.png", png()))]
    assert httpx.post(f"{server.address}/models/age/predict?coverage=0.9", files=files).status_code == 422


def test_requests_of_different_options_share_batches(server: Running, predictor: Predictor) -> None:
    import concurrent.futures

    wanted = [(i, 1 + i % 3, (None, 0.9)[i % 2]) for i in range(24)]

    def ask(one: tuple[int, int, float | None]) -> dict[str, object]:
        seed, top, coverage = one
        params = {"top": top} | ({} if coverage is None else {"coverage": coverage})
        return server.post(png(seed), params=params).json()["predictions"][0]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, wanted))
    for (seed, top, coverage), answer in zip(wanted, answers, strict=True):
        expected = predictor.predict(png(seed), top=top, coverage=coverage).to_dict()
        assert close(answer, {"filename": None, **expected})
