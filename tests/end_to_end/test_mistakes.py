"""What people type wrong: each gets one message that says what to do, exit code 2, and no traceback."""

import json

import pytest
from PIL import Image

from tests.helpers.command_line import run_megavit


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "megavit --help"]),
        (["train"], ["DATA is missing"]),
        (["train", "nowhere"], ["'nowhere' does not exist", "DATA/cat/1.jpg"]),
        (["train", "demo:cats"], ["demo:cats", "digits"]),
        (["train", "demo:digits", "--epochs", "many"], ["--epochs", "many"]),
        (["train", "demo:digits", "--epochs", "0"], ["epochs", "at least 1", "0"]),
        (["train", "demo:digits", "--epochs", "1", "--minutes", "1"], ["--minutes", "--epochs", "one of them"]),
        (["train", "demo:digits", "--learning-rate", "nan"], ["--learning-rate", "above 0", "nan"]),
        (["train", "demo:digits", "--model", "huge"], ["huge", "nano", "22B"]),
        (["train", "demo:digits", "--image-size", "9", "--patch-size", "2"], ["9", "8 or 10"]),
        (["train", "demo:digits", "--recipe", "fast"], ["fast", "photos"]),
        (["train", "demo:digits", "--recipe", "no.toml"], ["no.toml", "No such file"]),
        (["train", "demo:digits", "--device", "tpu"], ["tpu", "cpu"]),
        (["train", "demo:digits", "--out", "/proc/run"], ["/proc/run", "another path"]),
        (["train", "--seed", "1", "--resume", "run"], ["--resume", "leave out all others"]),
        (["train", "demo:digits", "--resume", "run"], ["no run to resume in run"]),
        (["train", "--resume", "nowhere"], ["no run to resume in nowhere"]),
        (["predict", "nowhere", "x.png"], ["nowhere does not exist", "megavit train"]),
        (["predict", "nowhere"], ["IMAGES"]),
        (["predict", "nowhere", "x.png", "--out", "x.txt"], [".jsonl or .csv"]),
        (["predict", "nowhere", "x.png", "--top", "0"], ["top", "at least 1"]),
        (["predict", "nowhere", "x.png", "--jsn"], ["unknown option --jsn"]),
        (["predict", "nowhere", "x.png", "--device", "gpu"], ["gpu", "cuda:N"]),
        (["evaluate", "nowhere", "demo:digits"], ["nowhere does not exist"]),
    ],
)
def test_a_mistake_gets_one_message(arguments, words, tmp_path):
    done = run_megavit(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("megavit: ") == 1 and done.stdout == ""
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").rglob("plan.json"))


def test_with_json_the_error_is_an_object(tmp_path):
    done = run_megavit("train", "nowhere", "--json", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == ""
    assert json.loads(done.stdout)["error"]["type"] == "DataError"


def test_settings_in_a_file_are_checked_to_the_last_key(tmp_path):
    (tmp_path / "mine.toml").write_text("[optimizer]\nlearning_rat = 1e-3\n[run]\nepochs = 'ten'\n")
    done = run_megavit("train", "demo:digits", "--recipe", "mine.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "optimizer.learning_rat: there is no such setting" in done.stderr
    assert "run.epochs: input should be a valid integer, got 'ten'" in done.stderr


def test_flags_go_before_the_file_and_the_file_before_the_recipe(tmp_path):
    (tmp_path / "mine.toml").write_text(
        "base = 'demo'\n[run]\nepochs = 1\nbatch_size = 100\n[optimizer]\nlearning_rate = 1e-3\n"
    )
    flags = ["--recipe", "mine.toml", "--batch-size", "200", "--out", "run"]
    done = run_megavit("train", "demo:digits", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = (tmp_path / "run" / "recipe.toml").read_text()
    assert "batch_size = 200" in recipe and "epochs = 1" in recipe
    assert "learning_rate = 0.001" in recipe and "mixup = 0.2" in recipe


def test_too_few_images_are_said_before_training(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 40 if name == "a" else 200).save(tmp_path / "data" / name / "1.png")
    done = run_megavit("train", "data", cwd=tmp_path)
    assert done.returncode == 2 and "at least 3" in done.stderr


def test_a_class_without_a_readable_image_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (8, 8), 40 * i).save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "data" / "c").mkdir()
    (tmp_path / "data" / "c" / "x.png").write_bytes(b"no image")
    done = run_megavit("train", "data", cwd=tmp_path)
    assert done.returncode == 2 and "'c'" in done.stderr and "x.png" in done.stderr
