"""A predictor of a small bundle."""

import math
from pathlib import Path

import pytest

from megavit.predict.predictor import Predictor, load
from tests.helpers.bundles import make_bundle
from tests.helpers.export_cases import export_case  # noqa: F401


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    """It stays with PyTorch, so that answers can be compared to the bit however busy the machine is."""
    predictor = load(bundle, device="cpu")
    predictor.engine.patience = math.inf
    return predictor
