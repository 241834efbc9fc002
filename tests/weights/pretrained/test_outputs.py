"""What the outputs of another library's model mean: as its settings say it, refused, or assumed with a word on it."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from benchmarks.conversion.cases import CASES, LABELS, REFUSED, THREE_LABELS, write_case, write_transformers
from megavit.cli.commands.convert import convert
from megavit.config.target import Target
from megavit.errors import BundleError, ConfigError, MegavitError
from megavit.predict.predictor import load
from megavit.weights.pretrained.outputs import class_names, infer_target, target_settings
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.save_checkpoint import save_pretrained


@pytest.mark.parametrize(
    "settings, outputs, asked, words",
    [
        ({"problem_type": "regression"}, 3, None, "3 regression outputs"),
        ({}, 3, "regression", "3 regression outputs"),
        ({"problem_type": "single_label_classification"}, 1, None, "--target multilabel"),
        ({}, 1, "classification", "--target regression"),
        ({"problem_type": "segmentation"}, 3, None, "'segmentation', expected single_label_classification"),
        ({"problem_type": ["regression"]}, 1, None, "expected single_label_classification"),
        ({"problem_type": "regression", "megavit": {"std": 0}}, 1, None, "std must be"),
        ({"problem_type": "regression", "megavit": {"mean": "x"}}, 1, None, "mean must be"),
        ({"problem_type": "multi_label_classification", "megavit": {"thresholds": [2, 0.5]}}, 2, None, "thresholds"),
        ({}, 0, "multilabel", "leave it out"),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings: dict[str, Any], outputs: int, asked: Any, words: str) -> None:
    with pytest.raises(MegavitError, match=words):
        infer_target(settings, outputs, asked)


@pytest.mark.parametrize(
    "settings, outputs, asked, kind, words",
    [
        ({}, 3, None, "classification", "--target multilabel"),
        ({"architecture": "vit_tiny_patch16_224"}, 3, None, "classification", "--target multilabel"),
        ({}, 1, None, "multilabel", "--target regression"),
        ({"model_type": "vit"}, 1, None, "multilabel", "as in transformers' pipeline"),
        (
            {"model_type": "vit", "problem_type": "multi_label_classification"},
            3,
            None,
            "multilabel",
            "megavit calibrate",
        ),
        ({"model_type": "vit"}, 3, "multilabel", "multilabel", "megavit calibrate"),
        ({"model_type": "vit"}, 3, None, "classification", None),
        ({"model_type": "vit", "problem_type": None}, 3, None, "classification", None),
        ({"problem_type": "regression"}, 1, None, "regression", None),
        ({"problem_type": "multi_label_classification"}, 1, "regression", "regression", None),
        ({}, 0, None, "classification", None),
    ],
)
def test_what_is_assumed_is_said_and_nothing_else(
    settings: dict[str, Any], outputs: int, asked: Any, kind: str, words: str | None
) -> None:
    target, reported = infer_target(settings, outputs, asked)
    assert target.kind == kind
    assert (words in " ".join(reported)) if words else not reported


@pytest.mark.parametrize("case", CASES)
def test_settings_say_the_target_that_they_were_written_for(case: str) -> None:
    target = CASES[case].target
    found, reported = infer_target(target_settings(target), len(CASES[case].labels) or 1)
    assert found == target
    assert not reported


def test_the_target_of_a_score_need_not_know_how_it_was_trained() -> None:
    target, _ = infer_target({"problem_type": "regression"}, 1)
    assert (target.mean, target.std, target.median) == (0, 1, None)
    assert infer_target(target_settings(target), 1)[0] == target


@pytest.mark.parametrize(
    "settings, outputs, names, fault",
    [
        (
            {"id2label": {"2": "owl", "0": "cat", "10": "newt"}},
            11,
            {0: "cat", 1: "class 1", 2: "owl", 10: "newt"},
            "3 of",
        ),
        ({"label_names": {"1": "dog", "0": "cat"}}, 2, {0: "cat", 1: "dog"}, None),
        ({"pretrained_cfg": {"label_names": ["cat", "dog"]}}, 2, {0: "cat", 1: "dog"}, None),
        (
            {"id2label": {"0": "background", "1": "cat", "2": "dog"}},
            2,
            {0: "class 0", 1: "class 1"},
            "the names were ignored",
        ),
        ({"label_names": ["cat"]}, 2, {0: "class 0", 1: "class 1"}, "the names were ignored"),
        ({"model_type": "clip", "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, 3, {0: "LABEL_0", 2: "LABEL_2"}, None),
        ({"model_type": "vit"}, 2, {0: "LABEL_0", 1: "LABEL_1"}, None),
        ({"id2label": {"0": "cat"}}, 0, {}, None),
    ],
)
def test_outputs_have_the_names_that_are_theirs(
    settings: dict[str, Any], outputs: int, names: dict[int, str], fault: str | None
) -> None:
    found, reported = class_names(settings, outputs)
    assert len(found) == outputs
    assert {i: found[i] for i in names} == names
    assert (fault in reported[0]) if fault else not reported


def test_names_of_any_kind_go_to_transformers_and_back_in_their_order(tmp_path: Path) -> None:
    folder = write_transformers(tmp_path / "theirs", "ViT", THREE_LABELS | {"layer_norm_eps": 1e-6})
    settings = json.loads((folder / "config.json").read_text())
    settings["id2label"] = {"2": "two", "0": "same", "1": "same"}
    (folder / "config.json").write_text(json.dumps(settings))
    for library in ("huggingface", "timm"):
        save_pretrained(library, load_pretrained(str(folder)), tmp_path / library)
        assert load_pretrained(str(tmp_path / library)).labels == ("same", "same (2)", "two")
    theirs = AutoConfig.from_pretrained(tmp_path / "huggingface", local_files_only=True)
    assert theirs.id2label == {0: "same", 1: "same (2)", 2: "two"}


def test_what_the_other_library_has_no_place_for_is_said_and_in_the_card(tmp_path: Path) -> None:
    source = load_pretrained(str(write_case(tmp_path / "ours", CASES["calibrated labels"])))
    reported = " ".join(save_pretrained("timm", source, tmp_path / "theirs"))
    for words in (
        "sigmoid of each of its 3 outputs",
        "a temperature of 0.4, is in the head",
        "thresholds of the labels",
    ):
        assert words in reported
    card = (tmp_path / "theirs" / "README.md").read_text()
    assert "library_name: timm" in card
    assert "sigmoid of each" in card
    assert f'"{LABELS[2]}": 0.9' in card
    score = load_pretrained(str(write_case(tmp_path / "score", CASES["regression"])))
    assert "mean 165 and standard deviation 12.5" in " ".join(save_pretrained("huggingface", score, tmp_path / "other"))


def test_a_smoothed_calibration_can_be_left_out_and_no_other(tmp_path: Path) -> None:
    smoothed = write_case(tmp_path / "smoothed", REFUSED["smoothed classes"])
    with pytest.raises(BundleError, match="--temperature-only"):
        save_pretrained("timm", load_pretrained(str(smoothed)), tmp_path / "theirs")
    reported = save_pretrained("timm", load_pretrained(str(smoothed)), tmp_path / "theirs", calibrated=False)
    assert "calibration was left out" in reported[0]
    assert load_pretrained(str(tmp_path / "theirs")).target == Target()
    held = load_pretrained(str(write_case(tmp_path / "held", CASES["calibrated classes"])))
    with pytest.raises(ConfigError, match="leave it out"):
        save_pretrained("timm", held, tmp_path / "other", calibrated=False)


def test_a_training_takes_a_model_whatever_its_outputs_mean(tmp_path: Path) -> None:
    folder = write_transformers(tmp_path / "theirs", "ViT", THREE_LABELS)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"problem_type": "regression"}))
    with pytest.raises(BundleError, match="train --from"):
        load_pretrained(str(folder))
    source = load_pretrained(str(folder), head=False)
    assert source.config.num_classes == 3
    assert not any("outputs" in sentence for sentence in source.notes)


def test_the_command_says_the_kind_and_what_it_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_transformers(tmp_path / "theirs", "ViT", {"num_labels": 1})
    convert(str(folder), out=tmp_path / "labels", json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["target"] == "multilabel"
    assert any("read as one label" in sentence for sentence in facts["notes"])
    convert(str(folder), out=tmp_path / "score", target="regression", json=True)
    assert json.loads(capsys.readouterr().out)["target"] == "regression"
    assert load(tmp_path / "score").target == "regression"
    assert "It predicts a number for each image." in (tmp_path / "score" / "README.md").read_text()
    with pytest.raises(ConfigError, match="defines its target"):
        convert(str(tmp_path / "score"), out=tmp_path / "again", to="timm", target="multilabel")
    with pytest.raises(ConfigError, match="--drop-calibration"):
        convert(str(folder), out=tmp_path / "again", drop_calibration=True)
