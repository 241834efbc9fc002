"""Embeddings in files: what one command computes is there for the next."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.predict import embedding_files
from megavit.predict.embedding_files import EmbeddingFiles, SharedEmbeddings

CONFIG = ViTConfig(image_size=8, patch_size=4, num_classes=3, dim=8, depth=1, heads=2, mlp_dim=16)
PIXELS = Preprocessing(height=8, width=8, channels=3)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows(*digests: str) -> dict[str, torch.Tensor]:
    return {digest: torch.full((8,), float(ord(digest))) for digest in digests}


def test_what_is_written_is_read_with_its_record(tmp_path: Path, said: list[str]) -> None:
    files = EmbeddingFiles(tmp_path / "new", said.append)
    assert [*files.read()] == []
    files.write(rows("a", "b"), seconds=2.5)
    files.write(rows("c"), seconds=3.0)
    found = {digest: row for part, _ in files.read() for digest, row in part.items()}
    assert {digest: row[0].item() for digest, row in found.items()} == {"a": 97, "b": 98, "c": 99}
    assert sorted(record["seconds"] for _, record in files.read()) == [2.5, 3.0]


def test_a_damaged_file_is_said_and_left_out(tmp_path: Path, said: list[str]) -> None:
    files = EmbeddingFiles(tmp_path, said.append)
    files.write(rows("a"))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    assert [*files.read()] == []
    (sentence,) = said
    assert "are damaged, and are computed again" in sentence


def test_commands_share_what_one_model_computed(cache: Path, said: list[str]) -> None:
    SharedEmbeddings("weights", CONFIG, PIXELS, said.append).add(rows("a", "b"), 4.0)
    trained = replace(CONFIG, num_classes=10, dropout=0.1, image_size=(8, 8))
    found = SharedEmbeddings("weights", trained, PIXELS, said.append)
    assert sorted(found.rows) == ["a", "b"] and found.image_seconds == 2.0
    found.add(rows("b", "c"), 1.0)
    assert sorted(SharedEmbeddings("weights", CONFIG, PIXELS, said.append).rows) == ["a", "b", "c"]
    assert said == []


@pytest.mark.parametrize(
    ("weights", "config", "pixels"),
    [
        ("others", CONFIG, PIXELS),
        ("weights", replace(CONFIG, image_size=16), replace(PIXELS, height=16, width=16)),
        ("weights", CONFIG, replace(PIXELS, mean=0.4)),
    ],
)
def test_another_model_or_size_has_embeddings_of_its_own(
    cache: Path, weights: str, config: ViTConfig, pixels: Preprocessing
) -> None:
    SharedEmbeddings("weights", CONFIG, PIXELS, print).add(rows("a"), 1.0)
    assert SharedEmbeddings(weights, config, pixels, print).rows == {}


def test_what_was_rounded_is_not_taken_for_exact(cache: Path) -> None:
    SharedEmbeddings("weights", CONFIG, PIXELS, print, "bfloat16").add(rows("a"), 1.0)
    assert SharedEmbeddings("weights", CONFIG, PIXELS, print).rows == {}
    assert sorted(SharedEmbeddings("weights", CONFIG, PIXELS, print, "bfloat16").rows) == ["a"]


def test_a_cache_that_is_no_folder_keeps_nothing(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setenv("MEGAVIT_CACHE", os.devnull)
    SharedEmbeddings("weights", CONFIG, PIXELS, said.append).add(rows("a"), 1.0)
    assert SharedEmbeddings("weights", CONFIG, PIXELS, said.append).rows == {} and said == []


def test_a_cache_that_cannot_be_written_is_said(cache: Path, said: list[str]) -> None:
    cache.mkdir()
    (cache / "embeddings").write_text("")
    SharedEmbeddings("weights", CONFIG, PIXELS, said.append).add(rows("a"), 1.0)
    (sentence,) = said
    assert sentence.startswith("other commands will compute these embeddings again")


def test_the_oldest_files_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_files, "MAX_SHARED_BYTES", 400)
    for age, digest in ((300, "a"), (200, "b"), (100, "c")):
        SharedEmbeddings("weights", CONFIG, PIXELS, print).add(rows(digest), 1.0)
        for path in (cache / "embeddings").rglob("*.safetensors"):
            stat = path.stat()
            os.utime(path, (stat.st_mtime - age, stat.st_mtime - age))
    kept = [path.stat().st_size for path in (cache / "embeddings").rglob("*.safetensors")]
    assert 0 < sum(kept) <= 400
    assert "c" in SharedEmbeddings("weights", CONFIG, PIXELS, print).rows
