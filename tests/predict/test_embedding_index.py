"""An index compares with every image, whatever fits into memory, and is read as it was written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from megavit.errors import BundleError
from megavit.predict import embedding_index
from megavit.predict.embedding_index import EmbeddingIndex, IndexedImage, features_key, read_index, write_index
from megavit.predict.predictor import load
from tests.helpers.bundles import make_bundle, make_model


def make_index(count: int = 50, dim: int = 6) -> EmbeddingIndex:
    vectors = torch.randn(count, dim, generator=torch.Generator().manual_seed(0))
    images = tuple(IndexedImage(name=f"{i}.png", label="caf\u00e9", split="val", stamp=f"{i}") for i in range(count))
    return EmbeddingIndex(images, vectors, "key")


@pytest.mark.parametrize("max_cosines", [2**24, 60])
def test_the_nearest_are_those_of_the_highest_cosine(max_cosines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_index, "MAX_COSINES", max_cosines)
    index, queries = make_index(), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    found, cosines = index.nearest(queries, 5)
    a, b = queries.numpy().astype(np.float64), index.vectors.numpy().astype(np.float64)
    expected = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    order = np.argsort(-expected, axis=1)[:, :5]
    np.testing.assert_array_equal(found.numpy(), order)
    np.testing.assert_allclose(cosines.numpy(), np.take_along_axis(expected, order, axis=1), atol=1e-6)
    assert index.nearest(queries, 1000)[0].shape == (7, 50)


def test_an_index_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    path, index = tmp_path / "new" / "index.safetensors", make_index()
    assert read_index(path) is None
    write_index(path, index)
    read = read_index(path)
    assert read is not None and read.images == index.images and read.model_key == "key"
    assert torch.equal(read.vectors, index.vectors)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"is not an index, or is damaged: delete it"):
        read_index(path)


def test_the_fingerprint_is_that_of_the_features_and_not_of_the_head(tmp_path: Path) -> None:
    keys = []
    for number, change in enumerate(("", "mlp_head.weight", "norm.weight")):
        model = make_model()
        if change:
            with torch.no_grad():
                model.state_dict()[change] += 1
        make_bundle(tmp_path / str(number), model)
        keys.append(features_key(load(tmp_path / str(number))))
    assert keys[0] == keys[1] != keys[2]
