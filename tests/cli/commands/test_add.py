"""`megavit add` and `megavit remove` print what the functions return, and exit with 1 if a training is due."""

import re
from pathlib import Path

from tests.helpers.command_line import run_megavit, run_megavit_json
from tests.helpers.digits_bundle import make_look_alike


def test_add_says_how_well_old_and_new_classes_are_recognized(
    digits_bundle: Path, added_digits: Path, tmp_path: Path
) -> None:
    done = run_megavit("add", digits_bundle, added_digits / "new" / "digit 3", "--out", "four", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "former classes: accuracy 100.0%" in done.stdout and "bundle: four" in done.stdout
    assert re.search(r"^digit 3 +24 +3 +3 +\d", done.stdout, re.MULTILINE)
    printed = run_megavit_json("remove", "four", "digit 0", "digit 3", "--out", "two", cwd=tmp_path)
    assert (printed["out"], printed["removed"]) == ("two", ["digit 0", "digit 3"])


def test_add_exits_with_1_if_a_class_is_not_separable(digits_bundle: Path, tmp_path: Path) -> None:
    make_look_alike(digits_bundle, tmp_path / "zero")
    done = run_megavit("add", digits_bundle, "zero", "--out", "four", cwd=tmp_path)
    assert done.returncode == 1
    assert "'zero' is not separable from 'digit 0'" in done.stdout.replace("\n", " ")


def test_mistakes_end_with_a_sentence(digits_bundle: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("add", digits_bundle, "nowhere", "--out", "out"), "'nowhere' does not exist: pass a folder with the images"),
        (("add", digits_bundle, digits_bundle.parent / "digits", "--out", "out"), "pass the folder of each class"),
        (("remove", digits_bundle, "digit 9", "--out", "out"), "has no class 'digit 9'"),
    ):
        done = run_megavit(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
