"""A folder of arrays of five channels, from training to prediction."""

import numpy as np

import megavit as package
from tests.end_to_end.conftest import QUICK
from tests.helpers.command_line import run_megavit, run_megavit_json


def test_five_channels_are_trained_on_measured_and_predicted(tmp_path):
    random = np.random.default_rng(0)
    for name, level in (("dry", 0.2), ("wet", 0.3)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            image = random.normal(0.1, 0.02, (8, 8, 5)).astype(np.float32)
            image[..., 3] = level
            np.save(tmp_path / "data" / name / f"{i}.npy", image.clip(0, 1))
    np.save(tmp_path / "data" / "wet" / "rgb.npy", np.zeros((8, 8, 3), np.uint8))
    done = run_megavit("train", "data", "--out", "run", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 channels, but most images have 5" in done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").is_file()

    measured = run_megavit_json("evaluate", "run", "data", "--verify", cwd=tmp_path)
    assert measured["data"]["skipped"] == {"3 channels, but most images have 5": 1}
    predictor = package.load(tmp_path / "run", device="cpu", verify=True)
    assert predictor.info.preprocessing.channels == 5
    file = tmp_path / "data" / "wet" / "3.npy"
    assert predictor.predict(file) == predictor.predict(np.load(file))
    done = run_megavit("predict", "run", "data/wet/rgb.npy", cwd=tmp_path)
    assert done.returncode == 2
    assert "the image has 3 channels, but the model expects 5" in done.stdout
