"""`megavit plan` as a person runs it."""

import json

import pytest

from megavit.cli.app import run
from megavit.plan.trace.validate import TraceComparison


def test_it_shows_layouts_memory_communication_and_assumptions(capsys) -> None:
    assert run(["plan", "L", "--gpus", "64", "--batch-size", "4096", "--total-images", "1281167"]) == 0
    shown = capsys.readouterr().out
    assert "\\n" not in shown
    for words in (
        "304,326,632 parameters",
        "Layouts that fit",
        "FSDP 64",
        "MFU",
        "days",
        "Assumed",
        "all-gather",
    ):
        assert words in shown


def test_json_holds_everything(capsys) -> None:
    assert run(["plan", "22B", "--gpus", "256", "--batch-size", "4096", "--optimizer", "adamw", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fitting"] and found["too_large"]
    for one in (*found["fitting"], *found["too_large"]):
        parts = {name: size for name, size in one["memory"].items() if name not in ("phase", "total")}
        assert sum(parts.values()) == one["memory"]["total"]
        assert sum(one["seconds"][part] for part in ("compute", "communication", "optimizer")) == pytest.approx(
            one["seconds"]["step"]
        )


def test_if_nothing_fits_the_exit_code_is_1_and_the_message_says_what_would(capsys) -> None:
    assert run(["plan", "22B", "--gpus", "4", "--batch-size", "64"]) == 1
    captured = capsys.readouterr()
    assert "no layout fits" in captured.err and "do not fit" in captured.out
    assert run(["plan", "22B", "--gpus", "4", "--batch-size", "64", "--json"]) == 1
    assert "no layout fits" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plan B --gpu h1000", "a100, h100, h200, b200, cpu"),
        ("plan BB", "there is no preset"),
        ("plan B --gpus 7 --batch-size 100", "cannot be divided"),
        ("plan B --gpus 0", "gpus must be an integer"),
        ("plan B --image-size 225", "must be divisible"),
    ],
)
def test_mistakes_are_reported(capsys, line: str, words: str) -> None:
    assert run(line.split()) == 2
    assert words in capsys.readouterr().err


def test_of_a_model_of_a_few_megabytes_the_check_holds_a_megabyte_against_nobody() -> None:
    pico, large = 4 * 10**6, 4 * 10**9
    assert TraceComparison(memory=(pico + 2**20, pico), communication={"all-reduce": (0, 2**20)}).agrees
    assert not TraceComparison(memory=(pico + 2**20 + 1, pico), communication={}).agrees
    assert not TraceComparison(memory=(large, large), communication={"all-reduce": (0, 2**20 + 1)}).agrees
    assert TraceComparison(memory=(large + large // 20, large), communication={}).agrees
    assert not TraceComparison(memory=(large + large // 19, large), communication={}).agrees


def test_check_traces_the_best_layout(capsys) -> None:
    assert run(["plan", "pico", "--gpus", "4", "--batch-size", "64", "--trace", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["trace"]
    assert found["agrees"] and found["communication"]
