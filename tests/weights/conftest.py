"""A bundle to read, and to spoil."""

from pathlib import Path

import pytest

from tests.helpers.bundles import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"
