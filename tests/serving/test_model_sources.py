from pathlib import Path

import pytest

from megavit.errors import BundleError, ConfigError
from megavit.serving.model_sources import get_version, parse_sources


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("flowers", "run 1/bundle", "a=b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "megavit.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_named_after_its_folder_or_its_run_or_as_given(runs: Path) -> None:
    assert parse_sources(["flowers"]) == [("flowers", "flowers")]
    assert parse_sources([f"{runs}/flowers/"])[0][0] == "flowers"
    assert parse_sources(["one=run 1", "two=run 1/bundle"]) == [("one", "run 1"), ("two", "run 1/bundle")]
    assert parse_sources(["c=a=b"]) == [("c", "a=b")]
    assert parse_sources(["hf-hub:someone/birds"]) == [("birds", "hf-hub:someone/birds")]
    (runs / "run").mkdir()
    (runs / "run 1" / "bundle").rename(runs / "run" / "bundle")
    assert parse_sources(["run/bundle"]) == parse_sources(["run=run/bundle"]) == [("run", "run/bundle")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flowers", "flowers"], "two models are named flowers"),
        (["run 1"], "cannot be used as a model name"),
        (["a/b=flowers"], "cannot be used as a model name"),
        ([], "no model"),
    ],
)
def test_names_that_cannot_be_are_refused(runs: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sources(arguments)


def test_a_folder_without_a_bundle_is_refused(runs: Path) -> None:
    with pytest.raises(BundleError, match="nowhere is not a bundle"):
        parse_sources(["x=nowhere"])


def test_another_bundle_is_another_version(runs: Path) -> None:
    first = get_version("flowers")
    assert first is not None
    assert first == get_version("flowers")
    (runs / "new").write_text("{}")
    (runs / "new").replace(runs / "flowers" / "megavit.json")
    assert get_version("flowers") not in (first, None)
    assert get_version("nowhere") is None
