"""The same picture gives the same answer, however it is given; and a stream of them needs little memory."""

import io
import itertools
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import megavit
from megavit.config.preprocessing import Preprocessing
from megavit.errors import BundleError, ConfigError, ImageError
from megavit.predict import predictor as module
from megavit.predict.prediction import Prediction, PredictionResult
from megavit.predict.predictor import BATCHES_AHEAD, load
from tests.helpers.bundles import LABELS, make_bundle, make_model


def pixels(seed: int = 0, height: int = 12, width: int = 20, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    PIL.Image.fromarray(array).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo ä.png").write_bytes(png(pixels()))
    return tmp_path / "photo ä.png"


# one image


def test_three_lines_are_enough(bundle, photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    predictor = megavit.load(str(bundle))
    prediction = predictor.predict(photo.name)
    assert prediction.label in LABELS
    assert 0 < prediction.probability <= 1


def test_a_picture_gives_the_same_answer_however_it_is_given(predictor, photo):
    color = pixels()
    opaque = np.dstack([color, np.full(color.shape[:2], 255, np.uint8)])
    ways: dict[str, Any] = {
        "path": photo,
        "text": str(photo),
        "bytes": photo.read_bytes(),
        "PIL": PIL.Image.open(photo),
        "PIL with opacity": PIL.Image.fromarray(opaque),
        "array": color,
        "array with opacity": opaque,
        "array of another order": np.asfortranarray(color),
        "view": np.repeat(color, 2, axis=1)[:, ::2],
        "floats": color.astype(np.float64) / 255,
        "tensor": torch.from_numpy(color).permute(2, 0, 1),
        "tensor of floats": torch.from_numpy(color).permute(2, 0, 1).float() / 255,
        "tensor with opacity": torch.from_numpy(opaque).permute(2, 0, 1),
    }
    expected = predictor.predict(color)
    for way, image in ways.items():
        assert predictor.predict(image) == expected, way
    assert predictor.predict(pixels(1)) != expected


def test_a_gray_picture_gives_the_same_answer_however_it_is_given(predictor):
    gray = pixels(channels=1)[..., 0]
    expected = predictor.predict(gray)
    as_rgb = np.dstack([gray] * 3)
    for image in (
        gray[..., None],
        as_rgb,
        torch.from_numpy(gray),
        torch.from_numpy(gray)[None],
        png(gray),
        png(as_rgb),
    ):
        assert predictor.predict(image) == expected


def test_a_model_of_one_channel_takes_color_and_gray(tmp_path):
    make_bundle(tmp_path / "b", make_model(channels=1))
    predictor = load(tmp_path / "b")
    gray = pixels(channels=1)[..., 0]
    assert predictor.predict(np.dstack([gray] * 3)) == predictor.predict(gray)
    assert predictor.predict(png(pixels())) == predictor.predict(pixels())


def test_what_is_transparent_is_white(predictor):
    clear = np.zeros((9, 9, 4), np.uint8)
    assert predictor.predict(clear) == predictor.predict(np.full((9, 9, 3), 255, np.uint8))


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 200), (200, 3), (100, 100)])
def test_a_picture_may_have_any_size(size, predictor):
    assert predictor.predict(pixels(0, *size)).label in LABELS


def test_the_answer_is_that_of_the_model(predictor):
    picture = pixels(0, 8, 8)
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = predictor.model((batch - 127.5) / 127.5).softmax(dim=1)[0]
    found = dict(predictor.predict(picture).top)
    assert [found[label] for label in LABELS] == expected.tolist()


def test_the_answer_is_the_first_of_the_top_which_is_in_order_and_sums_to_one(predictor):
    for seed in range(5):
        prediction = predictor.predict(pixels(seed))
        probabilities = [probability for _, probability in prediction.top]
        assert (prediction.label, prediction.probability) == prediction.top[0]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-6)
        assert {label for label, _ in prediction.top} == set(LABELS)


@pytest.mark.parametrize(("top", "length"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_the_top_has_as_many_as_asked_and_there_are(top, length, predictor):
    whole = predictor.predict(pixels(), top=3).top
    assert predictor.predict(pixels(), top=top).top == whole[:length]


# several images


def test_a_list_gives_a_list_in_the_same_order(predictor, photo):
    images = [photo, pixels(1), PIL.Image.fromarray(pixels(2))]
    together = predictor.predict(images)
    assert isinstance(together, list)
    for prediction, image in zip(together, images, strict=True):
        alone = predictor.predict(image)
        assert prediction.label == alone.label
        assert dict(prediction.top) == pytest.approx(dict(alone.top), abs=1e-5)
    assert predictor.predict(tuple(images)) == together
    assert predictor.predict([photo]) == [predictor.predict(photo)]


def test_an_empty_list_gives_an_empty_list(predictor):
    assert predictor.predict([]) == []
    assert predictor.predict(()) == []


def test_one_image_of_a_list_that_cannot_be_read_is_an_error(predictor):
    with pytest.raises(ImageError, match="not an image"):
        predictor.predict([pixels(), b"text"])


# what cannot be read


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("no/such.png", "no such file"),
        (Path("no/such.png"), "no such file"),
        (b"", "the file is empty"),
        (b"some text", "not an image"),
        (png(pixels())[:-30], "damaged or truncated"),
        (np.zeros((4, 4, 2), np.uint8), "the image has 2 channels, but the model expects 1, 3 or 4"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 4), np.int64), "uint8"),
        (torch.zeros(2, 4, 4), "the image has 2 channels, but the model expects 1, 3 or 4"),
        (None, "got NoneType"),
        (5, "got int"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused_with_its_reason(image, reason, predictor):
    with pytest.raises(ImageError) as caught:
        predictor.predict(image)
    assert reason in caught.value.reason
    assert isinstance(caught.value, ValueError)


def test_a_folder_is_no_image(predictor, tmp_path):
    with pytest.raises(ImageError, match="a folder"):
        predictor.predict(tmp_path)


# a stream


def test_a_stream_answers_in_order_and_errors_have_entries_of_their_own(predictor, photo):
    images: list[tuple[str, Any]] = [
        ("0", pixels(0)),
        ("none", "no/such.png"),
        ("1", png(pixels(1))),
        ("text", b"text"),
        ("2", photo),
        ("3", pixels(3)),
    ]
    for batch_size in (1, 2, 3, 99):
        answers = list(predictor.stream(images, batch_size=batch_size))
        assert [answer.name for answer in answers] == [name for name, _ in images]
        assert [answer.error for answer in answers] == [None, "no such file", None, "not an image", None, None]
        for answer, (_, image) in zip(answers, images, strict=True):
            if answer.error is None:
                assert answer.prediction is not None
                assert dict(answer.prediction.top) == pytest.approx(dict(predictor.predict(image).top), abs=1e-5)
            else:
                assert answer.prediction is None


def test_answers_by_another_engine_are_the_same_up_to_rounding(bundle, predictor):
    quick = load(bundle, device="cpu")
    quick.engine.patience = 0.0
    images = [(str(i), pixels(i)) for i in range(30)]
    for ours, plain in zip(quick.stream(images, batch_size=4), predictor.stream(images, batch_size=4), strict=True):
        assert ours.prediction is not None and plain.prediction is not None
        assert dict(ours.prediction.top) == pytest.approx(dict(plain.prediction.top), abs=1e-5)
    vectors = [answer.vector for answer in quick.embed_stream(images) if answer.vector is not None]
    expected = predictor.embed([image for _, image in images])
    torch.testing.assert_close(torch.stack(vectors), expected, rtol=0, atol=1e-4)
    assert "as fast as" in quick.engine.note


def test_a_stream_of_nothing_has_no_answers(predictor):
    assert list(predictor.stream([])) == []


def test_a_batch_of_which_nothing_can_be_read_is_answered(predictor):
    answers = list(predictor.stream([(str(i), b"text") for i in range(5)], batch_size=2))
    assert [answer.error for answer in answers] == ["not an image"] * 5


def test_the_top_of_a_stream_is_as_long_as_asked(predictor):
    (answer,) = predictor.stream([("a", pixels())], top=2)
    assert answer.prediction is not None
    assert len(answer.prediction.top) == 2


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_stream_without_end_is_read_only_a_few_batches_ahead(batch_size, predictor):
    read = 0

    def endless():
        nonlocal read
        for i in itertools.count():
            read += 1
            yield str(i), pixels(i, 8, 8)

    answers = predictor.stream(endless(), batch_size=batch_size)
    assert read == 0
    for answered, answer in enumerate(itertools.islice(answers, 5 * batch_size), start=1):
        assert answer.name == str(answered - 1)
        assert read <= answered + BATCHES_AHEAD * batch_size
    answers.close()
    assert read <= (5 + BATCHES_AHEAD) * batch_size


def test_memory_does_not_grow_with_the_stream(predictor):
    alive = most = 0

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def images():
        nonlocal alive, most
        for i in range(200):
            image = pixels(i, 8, 8)
            weakref.finalize(image, freed)
            alive += 1
            most = max(most, alive)
            yield str(i), image

    assert sum(answer.error is None for answer in predictor.stream(images(), batch_size=4)) == 200
    assert most <= (BATCHES_AHEAD + 1) * 4 + 1


def test_a_stream_that_is_given_up_leaves_no_threads(predictor):
    before = threading.active_count()
    answers = predictor.stream(((str(i), pixels(i, 8, 8)) for i in itertools.count()), batch_size=4, workers=3)
    next(answers)
    assert threading.active_count() > before
    answers.close()
    assert threading.active_count() == before


def test_an_error_of_the_source_comes_through(predictor):
    def broken():
        yield "0", pixels()
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(predictor.stream(broken(), batch_size=1))


# answers as JSON


def test_an_answer_as_json_types():
    prediction = Prediction(top=(("cat", 0.75), ("dog", 0.25)))
    assert PredictionResult("a.png", prediction, None).to_dict() == {
        "path": "a.png",
        "label": "cat",
        "probability": 0.75,
        "top": [{"label": "cat", "probability": 0.75}, {"label": "dog", "probability": 0.25}],
    }
    assert PredictionResult("b.png", None, "no such file").to_dict() == {"path": "b.png", "error": "no such file"}


# the predictor itself


def test_it_says_what_it_is(predictor):
    assert predictor.labels == LABELS
    assert predictor.info.preprocessing.height == 8
    assert not predictor.model.training


def test_several_threads_get_the_answers_of_one(predictor):
    images = [pixels(i) for i in range(40)]
    expected = [predictor.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(predictor.predict, images)) == expected
        streamed = [(str(i), image) for i, image in enumerate(images)]
        streams = [pool.submit(lambda: list(predictor.stream(streamed, batch_size=7))) for _ in range(4)]
        answers = [future.result() for future in streams]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert torch.is_grad_enabled()


def test_probabilities_of_prepared_pictures_sum_to_one(predictor):
    batch = torch.stack([predictor.prepare(pixels(i)) for i in range(3)])
    (found,) = predictor.outputs([batch])
    assert found.shape == (3, 3)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    assert not found.requires_grad


def test_prepared_pictures_have_the_models_size(predictor):
    for image in (pixels(), pixels(channels=1), png(pixels())):
        prepared = predictor.prepare(image)
        assert prepared.shape == (3, 8, 8)
        assert prepared.dtype == torch.uint8
        assert prepared.is_contiguous()


# loading


def test_the_folder_may_be_text_or_a_path_or_that_of_the_run(bundle, tmp_path):
    assert load(os.fspath(bundle)).labels == LABELS
    make_bundle(tmp_path / "run/bundle")
    assert load(tmp_path / "run", verify=True).labels == LABELS


def test_what_cannot_be_loaded_is_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        load(tmp_path / "none")
    with pytest.raises(ConfigError, match="cuda:99"):
        load(bundle, device="cuda:99")
    with pytest.raises(ConfigError, match="cuda:N"):
        load(bundle, device="gpu")


# images that keep their shape


@pytest.fixture
def kept(tmp_path):
    model = make_model(image_size=16)
    size = Preprocessing(height=16, width=16, channels=3, keep_aspect=True, patch_size=4)
    make_bundle(tmp_path / "kept", model, preprocessing=size)
    return load(tmp_path / "kept", device="cpu", verify=True)


SHAPES = [(12, 20), (20, 12), (16, 64), (12, 20), (7, 7), (3, 200)]


def test_a_list_of_any_shapes_gets_the_answers_of_one_at_a_time(kept):
    images = [pixels(i, *shape) for i, shape in enumerate(SHAPES)]
    together = kept.predict(images)
    for image, prediction in zip(images, together, strict=True):
        assert dict(kept.predict(image).top) == pytest.approx(dict(prediction.top), abs=1e-5)
    answers = list(kept.stream((str(i), image) for i, image in enumerate(images)))
    for answer, prediction in zip(answers, together, strict=True):
        assert answer.prediction is not None
        assert dict(answer.prediction.top) == pytest.approx(dict(prediction.top), abs=1e-5)


def test_a_large_jpeg_gets_the_shape_that_it_has_in_full(kept, tmp_path):
    """Whose sides, halved or quartered for speed, could fit another grid."""
    for i, (height, width) in enumerate([(1001, 1403), (2000, 999), (1999, 601)]):
        image = PIL.Image.fromarray(pixels(i, 20, 30)).resize((width, height))
        image.save(tmp_path / "large.jpg")
        from_file, from_memory = kept.prepare(tmp_path / "large.jpg"), kept.prepare(image)
        assert from_file.shape == from_memory.shape == (3, *kept.info.preprocessing.size_for(height, width))


def test_the_shape_is_kept_where_that_is_asked_of_a_bundle_trained_without(tmp_path):
    make_bundle(tmp_path / "bundle", make_model(image_size=16))
    asked = load(tmp_path / "bundle", device="cpu", verify=True, keep_aspect=True)
    assert asked.prepare(pixels(0, 10, 40)).shape == (3, 8, 32)
    assert load(tmp_path / "bundle", device="cpu").prepare(pixels(0, 10, 40)).shape == (3, 16, 16)
    assert asked.predict(pixels(0, 10, 40)) == asked.predict([pixels(0, 10, 40)])[0]


@pytest.mark.parametrize(("device", "times"), [("cpu", 0), ("cuda", 1), ("mps", 1)])
def test_on_a_gpu_the_reference_outputs_must_come_out(bundle, monkeypatch, device, times):
    checked = []
    monkeypatch.setattr(module, "pick_device", lambda name: torch.device(device))
    monkeypatch.setattr(torch.nn.Module, "to", lambda model, device: model)
    monkeypatch.setattr(module, "verify_reference_outputs", checked.append)
    predictor = module.load(bundle)
    assert len(checked) == times and all(found.model is predictor.model for found in checked)
