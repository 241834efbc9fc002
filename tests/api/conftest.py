from pathlib import Path

import pytest

import megavit

TINY = {"model": {"patch_size": 4, "channels": 1}, "run": {"precision": "float32", "device": "cpu"}}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> megavit.Run:
    """A model of digits, trained in seconds."""
    out: Path = tmp_path_factory.mktemp("api") / "run"
    return megavit.train("demo:digits", out=out, epochs=2, model="pico", image_size=8, settings=TINY)
