"""Fine-tuning as a user does it: a run on some digits, then another with its weights on a few images of others."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from megavit.train.checkpoint import checkpoints
from tests.end_to_end.conftest import megavit, megavit_json

FLAGS = ["--epochs", "8", "--precision", "float32", "--device", "cpu", "--batch-size", "16"]
WEIGHTS = Path("bundle") / "model.safetensors"


def write(folder: Path, digits: range, chosen: slice) -> None:
    images, labels = load_digits(return_X_y=True)
    for digit in digits:
        (folder / str(digit)).mkdir(parents=True)
        for i, pixels in enumerate(images[labels == digit][chosen]):
            image = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype("uint8"))
            image.save(folder / str(digit) / f"{i:03}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0 to 4 with many images in `before`, 5 to 9 with few in `after`."""
    folder = tmp_path_factory.mktemp("tune")
    write(folder / "before", range(5), slice(0, None, 2))
    write(folder / "after" / "train", range(5, 10), slice(0, None, 15))
    write(folder / "after" / "test", range(5, 10), slice(1, None, 6))
    return folder


@pytest.fixture(scope="module")
def before(data: Path) -> Path:
    flags = ["--model", "pico", "--epochs", "12", "--precision", "float32", "--device", "cpu", "--batch-size", "32"]
    done = megavit("train", data / "before", "--out", "before", *flags, cwd=data.parent)
    assert done.returncode == 0, done.stderr
    return data.parent / "before"


@pytest.fixture(scope="module")
def lora(data: Path, before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of low-rank additions that nobody disturbed."""
    folder = tmp_path_factory.mktemp("lora")
    done = megavit("train", data / "after", "--init", before, "--tune", "lora", "--out", "run", *FLAGS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_with_few_images_it_beats_beginning_from_nothing_and_says_how(data, before, tmp_path):
    nothing = megavit_json("train", data / "after", "--model", "pico", "--out", "nothing", *FLAGS, cwd=tmp_path)
    tuned = megavit_json("train", data / "after", "--init", before, "--out", "tuned", *FLAGS, cwd=tmp_path)
    assert tuned["test"]["accuracy"]["value"] > nothing["test"]["accuracy"]["value"] + 0.1
    tuning = json.loads((tmp_path / "tuned" / "bundle" / "megavit.json").read_text())["tuning"]
    names = [rung["name"] for rung in tuning["rungs"]]
    assert names == ["knn", "probe", "lora", "last", "all"][: len(names)] and len(names) >= 3
    assert tuning["kept"] in names and tuning["reason"] and " images of training and validation, each by a model that learnt from other 4 fifths" in tuning["images"]
    assert all(rung["seconds"] > 0 for rung in tuning["rungs"])
    page = (tmp_path / "tuned" / "report.html").read_text()
    assert "Fine-tuning" in page and tuning["reason"] in page
    checked = megavit("predict", "tuned", data / "after" / "test" / "5" / "000.png", "--verify", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("rung", ["probe", "last", "all"])
def test_a_rung_that_is_asked_for_is_the_one_in_the_bundle(data, before, tmp_path, rung):
    done = megavit("train", data / "after", "--init", before, "--tune", rung, "--out", "run", *FLAGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{rung} is kept: it was asked for" in done.stderr
    assert (tmp_path / "run" / "rungs").exists() == (rung != "probe")


def test_at_another_size_positions_are_resampled_and_it_says_so(data, before, tmp_path):
    line = ["train", data / "after", "--init", before, "--tune", "probe", "--image-size", "12", "--out", "run"]
    done = megavit(*line, "--minutes", "0.2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "positions resampled from 4 × 4 to 6 × 6 patches" in done.stderr
    info = json.loads((tmp_path / "run" / "bundle" / "megavit.json").read_text())
    assert info["model"]["image_size"] == [12, 12] and info["preprocessing"]["height"] == 12


def test_a_killed_run_goes_on_to_the_same_weights(data, before, lora, tmp_path):
    out = tmp_path / "run"
    line = ["train", str(data / "after"), "--init", str(before), "--tune", "lora", "--out", str(out), *FLAGS]
    process = subprocess.Popen([sys.executable, "-m", "megavit", *line, "--checkpoint-seconds", "0.0001"])
    deadline, step = time.monotonic() + 120, random.Random(0).randint(2, 15)
    while not any(int(path.name.removeprefix("step-")) >= step for path in checkpoints(out / "rungs/lora/checkpoints")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (out / "bundle").exists()
    resumed = megavit("train", "--resume", out, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (out / WEIGHTS).read_bytes() == (lora / WEIGHTS).read_bytes()


def test_the_written_recipe_gives_the_same_weights(data, lora, tmp_path):
    done = megavit("train", data / "after", "--recipe", lora / "recipe.toml", "--out", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (lora / WEIGHTS).read_bytes()


def test_weights_that_have_changed_are_not_gone_on_with(data, lora, before, tmp_path):
    plan = json.loads((lora / "plan.json").read_text())
    plan["init"] = "0" * 64
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text(json.dumps(plan))
    refused = megavit("train", "--resume", "run", cwd=tmp_path)
    assert refused.returncode == 2 and "are not what they were when the run began" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", "pico"], "leave out 'pico'"),
        (["--patch-size", "4"], "patch_size is 2 × 2 in the weights"),
        (["--image-size", "9"], "the nearest that does is 8 or 10"),
        (["--init", "nowhere"], "nowhere is not there"),
    ],
)
def test_what_the_weights_do_not_leave_open_is_refused_before_anything_is_written(data, before, tmp_path, flags, told):
    init = [] if "--init" in flags else ["--init", before]
    refused = megavit("train", data / "after", *init, *flags, "--out", "run", cwd=tmp_path)
    assert refused.returncode == 2 and told in refused.stderr
    assert not (tmp_path / "run" / "plan.json").exists()


def test_tune_without_init_is_refused(data, tmp_path):
    refused = megavit("train", data / "after", "--tune", "lora", cwd=tmp_path)
    assert refused.returncode == 2 and "--init" in refused.stderr
