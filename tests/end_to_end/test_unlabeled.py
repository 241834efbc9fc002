"""Images without labels as a user adds them: some digits with labels, a heap of others with letters among them."""

import contextlib
import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import megavit
from megavit.cli.app import run
from megavit.errors import DataError, Interrupted
from tests.helpers.digits import make_digits_folder
from tests.helpers.listener import Listener

FLAGS = ["--finetune", "probe", "--epochs", "1", "--precision", "float32", "--device", "cpu"]
PROBE: dict[str, Any] = {
    "finetune": "probe",
    "epochs": 1,
    "settings": {"run": {"precision": "float32"}},
    "report": False,
}


def train(*arguments: str | Path) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = run(["train", *map(str, arguments)])
    return code, said.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few labeled digits, and a heap of others, of which one is a test image, with black pictures among them."""
    folder = tmp_path_factory.mktemp("unlabeled")
    for split, chosen in (("train", slice(0, 6)), ("val", slice(6, 9)), ("test", slice(9, 40))):
        make_digits_folder(folder / "labeled" / split, range(3), chosen, "digit ")
    make_digits_folder(folder / "heap", range(3), slice(39, 90))
    (folder / "heap" / "foreign").mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 255 - number).save(folder / "heap" / "foreign" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, digits_bundle: Path) -> tuple[Path, str]:
    """The folder of a run with the heap, and what the command said."""
    out = data / "run"
    code, said = train(data / "labeled", "--unlabeled", data / "heap", "--from", digits_bundle, "--out", out, *FLAGS)
    assert code == 0, said
    return out, said


def test_the_terminal_the_report_the_card_and_a_table_say_what_became_of_the_images(trained, data):
    out, said = trained
    found = json.loads((out / "bundle" / "megavit.json").read_text())["tuning"]["pseudo_labels"]
    used, refused, gain = sum(found["used"].values()), found["refused"], found["gain"]
    assert used + sum(refused.values()) == 3 * 51 + 12 and gain["images"] == 27
    assert refused["the same file as a test image"] == 3 and set(found["used"]) <= {"digit 0", "digit 1", "digit 2"}
    assert f"{used:,} of 165 images without labels" in said and "McNemar's exact test: p = " in said
    with (out / "pseudo_labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["status"] for row in rows) == Counter(refused) + Counter({"used": used})
    is_right = [row["name"].startswith(row["label"].removeprefix("digit ")) for row in rows if row["status"] == "used"]
    assert used > 60 and sum(is_right) > 0.7 * used
    assert sum(row["status"] == "used" for row in rows if row["name"].startswith("foreign/")) <= 2
    page = (out / "report.html").read_text()
    assert "Images without labels" in page and "pseudo_labels.csv" in page
    card = (out / "bundle" / "README.md").read_text()
    assert (f"It learned from {used:,} images of" in card) == gain["is_better"]


def test_no_image_without_a_label_is_a_sample_of_the_run(trained, data):
    with (trained[0] / "samples.csv").open(encoding="utf-8") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert len(names) == 3 * 40 and all(name.split("/")[0] in ("train", "val", "test") for name in names)


def test_a_stopped_run_goes_on_to_the_same_bits(trained, data, digits_bundle, tmp_path):
    class Stopping(Listener):
        def progress(self, what: str, done: int, total: int) -> None:
            if what == "embedding images" and total > 100:
                raise KeyboardInterrupt

    labeled, out = data / "labeled", tmp_path / "run"
    with pytest.raises(Interrupted, match="--resume"):
        megavit.train(labeled, out=out, from_=digits_bundle, unlabeled=data / "heap", reporter=Stopping(), **PROBE)
    moved = data / "moved"
    (data / "heap").rename(moved)
    try:
        with pytest.raises(DataError, match=r"images without labels .* are no longer at"):
            megavit.resume(out)
    finally:
        moved.rename(data / "heap")
    resumed = megavit.resume(out)
    weights = Path("bundle") / "model.safetensors"
    assert (out / weights).read_bytes() == (trained[0] / weights).read_bytes()
    assert resumed.pseudo_labels is not None and resumed.to_dict()["pseudo_labels"]["used"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--from", "scratch"], "--unlabeled needs the features of pretrained weights"),
        (["--epochs", "1"], "--unlabeled needs the features of pretrained weights"),
        (["--folds", "3"], "--unlabeled is for a single run: leave out --folds"),
        (["--from", "BUNDLE", "--unlabeled", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_at_once(flags, message, data, digits_bundle, tmp_path):
    flags = [str(digits_bundle) if flag == "BUNDLE" else flag for flag in flags]
    unlabeled = [] if "--unlabeled" in flags else ["--unlabeled", data / "heap"]
    code, said = train(data / "labeled", *unlabeled, "--out", tmp_path / "run", *flags)
    assert code == 2 and message in " ".join(said.split()), said
