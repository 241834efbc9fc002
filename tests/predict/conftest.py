"""A predictor of a small bundle."""

from pathlib import Path

import pytest

from megavit.predict.predictor import Predictor, load
from tests.weights.bundles import make_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    return load(bundle, device="cpu")
