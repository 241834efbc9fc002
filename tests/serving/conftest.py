"""Bundles to serve, and servers that tests share."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from megavit.config.calibration import Calibration
from megavit.predict.postprocess.postprocess import MEANS, SET_LABELS, SET_SCORES, WHITENING
from tests.helpers.bundles import make_bundle
from tests.helpers.servers import Running, megavit_serve, stub_server

CALIBRATION = {
    SET_SCORES: torch.linspace(0, 0.9, 99, dtype=torch.float64),
    SET_LABELS: torch.arange(99) % 3,
    MEANS: torch.zeros(3, 8),
    WHITENING: torch.eye(8),
}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, with sets and distances from training."""
    folder = tmp_path_factory.mktemp("serve") / "animals"
    make_bundle(folder, tensors=CALIBRATION, calibration=Calibration(images=99, ood_threshold=0.5))
    return folder


@pytest.fixture(scope="session")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`megavit serve` of `bundle`, and of one that answers with a score."""
    from megavit.config.target import Target
    from tests.helpers.bundles import make_model

    score = tmp_path_factory.mktemp("serve") / "age"
    make_bundle(score, make_model(1), labels=(), metrics={}, target=Target(kind="regression", mean=30, std=9))
    with megavit_serve(bundle, score, "--max-megapixels", "1", "--max-request-mib", "4") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a model of `stub_worker`."""
    return stub_folder(tmp_path / "stub")


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a stub, for tests that leave it whole."""
    folder = stub_folder(tmp_path_factory.mktemp("serve") / "stub", note="slow here")
    with stub_server(folder, read_timeout=1, timeout=2, queue_size=8, max_request_mib=200_000 / 2**20) as running:
        yield running


def stub_folder(folder: Path, **config: str) -> Path:
    folder.mkdir(exist_ok=True)
    new = folder / "new"
    new.write_text(json.dumps({"version": "1"} | config))
    new.replace(folder / "megavit.json")
    return folder


def png(seed: int = 0, size: tuple[int, int] = (12, 9), color: tuple[int, int, int] | None = None) -> bytes:
    """The bytes of a picture of noise, or of one color."""
    content = io.BytesIO()
    if color is not None:
        Image.new("RGB", size, color).save(content, format="PNG")
        return content.getvalue()
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=random)
    Image.fromarray(pixels.numpy()).save(content, format="PNG")
    return content.getvalue()
