"""Classes of a converted model are called as a file of the user's says."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.errors import ConfigError
from megavit.weights.bundle.bundle import read_info
from megavit.weights.pretrained.outputs import read_class_names, unique_names
from tests.helpers.command_line import run_megavit


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nhorse\n",
        "\ufeffcat\r\n dog \r\nhorse",
        '["cat", "dog", "horse"]',
        '{"0": "cat", "2": "horse", "1": "dog"}',
        '{"cat": 0, "horse": 2, "dog": 1}',
    ],
)
def test_names_are_one_a_line_or_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / "names", 3) == ("cat", "dog", "horse")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat\ndog", "names 2 classes, but the model has 3"),
        ('{"1": "cat", "2": "dog", "3": "horse"}', "number the classes from 0 to 2"),
        ("[1, 2, 3]", "must have one name per line"),
        ('["cat", "dog"', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_names_no_classes_is_refused_in_a_sentence(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "names").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_class_names(tmp_path / "names", 3)


def test_a_file_that_is_no_text_and_a_model_without_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_class_names(tmp_path / "names", 3)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_class_names(tmp_path / "nowhere", 3)
    with pytest.raises(ConfigError, match="no classifier"):
        read_class_names(tmp_path / "names", 0)


@given(st.lists(st.sampled_from(["a", "a (2)", "a (3)", "b", "a (2) (2)"])))
def test_equal_names_get_numbers_that_no_other_has(names: list[str]) -> None:
    made = unique_names(names)
    assert len(set(made)) == len(names)
    for i, name in enumerate(names):
        if name not in names[:i]:
            assert made[i] == name


def test_a_made_up_name_is_never_anothers() -> None:
    assert unique_names(["a", "a (2)", "a"]) == ("a", "a (2)", "a (3)")


def test_the_command_line_names_the_classes(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1}
    model: Any = timm.create_model("vit_tiny_patch16_224", num_classes=2, **sizes)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    (tmp_path / "names.json").write_text(json.dumps({"0": "cat", "1": "dog"}))
    assert run_megavit("convert", "a.pth", "--out", "b", "--class-names", "names.json", cwd=tmp_path).returncode == 0
    assert read_info(tmp_path / "b").labels == ["cat", "dog"]
    (tmp_path / "names.json").write_text(json.dumps(["cat"]))
    done = run_megavit("convert", "a.pth", "--out", "c", "--class-names", "names.json", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "names 1 classes, but the model has 2" in done.stderr
    assert not (tmp_path / "c").exists()
