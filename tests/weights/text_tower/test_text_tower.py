"""Texts and images have the embeddings of transformers, and a classifier by texts needs no image."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import megavit
from megavit.engine.openvino import OpenVino
from megavit.errors import BundleError, ConfigError
from megavit.weights.text_tower.load import load_text_encoder
from tests.helpers.bundles import make_bundle
from tests.helpers.two_towers import make_tokenizer, save_two_towers

TEXTS = ["a photo of a cat", "red shoe", "a photo of a red dog . a photo of a red dog"]
CLASSES = ["cat", "dog", "red shoe"]


class Towers(NamedTuple):
    """A folder, what transformers saved there, "clip" or "siglip", and some images."""

    folder: Path
    model: Any
    kind: str
    photos: list[Path]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def towers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Towers:
    folder, random = tmp_path_factory.mktemp(request.param), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(5):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    model = save_two_towers(folder / "towers", request.param)
    return Towers(folder / "towers", model, request.param, sorted((folder / "photos").iterdir()))


@torch.no_grad()
def embed_by_transformers(towers: Towers) -> tuple[Tensor, Tensor]:
    """The embeddings of `TEXTS` and of the images, of length 1."""
    import transformers

    tokenizer, length = make_tokenizer(towers.kind), towers.model.config.text_config.max_position_embeddings
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0)
    ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(TEXTS)])
    processor = transformers.AutoImageProcessor.from_pretrained(towers.folder)
    pixels = processor([Image.open(photo) for photo in towers.photos], return_tensors="pt").pixel_values
    texts, images = towers.model.get_text_features(ids), towers.model.get_image_features(pixels)
    return F.normalize(texts.pooler_output, dim=1), F.normalize(images.pooler_output, dim=1)


def test_texts_and_images_have_the_embeddings_of_transformers(towers: Towers, tmp_path: Path) -> None:
    texts, images = embed_by_transformers(towers)
    among = [str(towers.photos[0].parent)]
    search = megavit.index_images(towers.folder, among, by_text=True, index=tmp_path / "index")
    assert search.text_encoder is not None
    torch.testing.assert_close(search.text_encoder.encode(TEXTS), texts, rtol=0, atol=1e-5)
    for text, cosines in zip(TEXTS, texts @ images.T, strict=True):
        matches = search.find_text(text, top=5)
        ranked = cosines.sort(descending=True)
        assert [Path(match.image.name) for match in matches] == [towers.photos[rank] for rank in ranked.indices]
        found = torch.tensor([match.similarity for match in matches])
        torch.testing.assert_close(found, ranked.values, rtol=0, atol=1e-5)


def test_classes_are_told_by_their_texts(towers: Towers, tmp_path: Path) -> None:
    megavit.convert(towers.folder, classes=CLASSES, out=tmp_path / "bundle")
    predictor = megavit.load(tmp_path / "bundle", verify=True)
    _, images = embed_by_transformers(towers)
    prompts = load_text_encoder(towers.folder).encode([f"a photo of a {name}." for name in CLASSES])
    expected = (towers.model.logit_scale.detach().exp() * images @ prompts.T).softmax(dim=1)
    for prediction, row in zip(predictor.predict(towers.photos, top=3), expected, strict=True):
        assert prediction.label == CLASSES[int(row.argmax())]
        found = torch.tensor([dict(prediction.top)[name] for name in CLASSES])
        torch.testing.assert_close(found, row, rtol=0, atol=1e-5)
    batch = torch.stack([predictor.prepare(photo) for photo in towers.photos])
    logits = OpenVino(predictor.model, predictor.info.preprocessing, "float32")(batch)[1]
    torch.testing.assert_close(logits, predictor.engine.run_pytorch(batch).logits, rtol=1e-4, atol=1e-4)


def test_a_classifier_by_texts_is_neither_extended_nor_written_for_another_library(
    towers: Towers, tmp_path: Path
) -> None:
    megavit.convert(towers.folder, classes=CLASSES, out=tmp_path / "bundle")
    with pytest.raises(BundleError, match="tells classes by texts: convert its model again"):
        megavit.add_classes(tmp_path / "bundle", [towers.photos[0].parent], out=tmp_path / "out")
    with pytest.raises(BundleError, match="a head that transformers has no place for"):
        megavit.convert(tmp_path / "bundle", to="huggingface", out=tmp_path / "out")


def test_models_without_a_text_tower_are_refused(towers: Towers, tmp_path: Path) -> None:
    among = [str(towers.photos[0].parent)]
    make_bundle(tmp_path / "bundle")
    for folder in (tmp_path / "bundle", tmp_path / "missing"):
        with pytest.raises(BundleError, match="has no text tower, so that images cannot be compared with text"):
            megavit.index_images(folder, among, by_text=True)
    with pytest.raises(ConfigError, match="no images of its own: say with --among"):
        megavit.index_images(towers.folder, by_text=True)


def test_a_tokenizer_and_settings_that_cannot_be_used_are_refused(towers: Towers, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in towers.folder.iterdir():
        if file.name != "tokenizer.json":
            (bare / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BundleError, match=r"has no tokenizer.json: save its tokenizer there"):
        megavit.convert(bare, classes=CLASSES, out=tmp_path / "out")
    (bare / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer.json cannot be read"):
        load_text_encoder(bare)
    settings = json.loads((bare / "config.json").read_text())
    settings["text_config"]["hidden_act"] = "tanh"
    (bare / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError, match="a text tower with tanh"):
        load_text_encoder(bare)


@pytest.mark.parametrize("classes", [["cat"], ["cat", "cat"], []])
def test_classes_must_differ(classes: list[str], towers: Towers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two classes of different names"):
        megavit.convert(towers.folder, classes=classes, out=tmp_path / "out")


def test_a_text_without_a_word_is_refused(towers: Towers) -> None:
    with pytest.raises(ConfigError, match="a text must have at least one word, got ' '"):
        load_text_encoder(towers.folder).encode(["cat", " "])
