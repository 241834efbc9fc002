"""A real bundle that is replaced while it is served."""

import shutil
from pathlib import Path

import megavit
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.servers import megavit_serve
from tests.serving.conftest import png


def test_a_new_bundle_is_loaded_and_a_damaged_one_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "animals"
    make_bundle(folder, make_model(seed=1))
    with megavit_serve(folder) as server:
        for seed in (1, 2):
            if seed == 2:
                make_bundle(folder, make_model(2, seed=2), labels=("left", "right"))
                server.until(lambda: server.events("model_reloaded"))
                assert server.get("/models").json()["models"][0]["labels"] == ["left", "right"]
            expected = megavit.load(folder, device="cpu").predict(png())
            (answer,) = server.post(png()).json()["predictions"]
            assert answer["label"] == expected.label
            assert abs(answer["probability"] - expected.probability) < 1e-4
        damaged = tmp_path / "damaged"
        shutil.copytree(folder, damaged)
        (damaged / "model.safetensors").write_bytes(b"x")
        folder.rename(tmp_path / "old")
        damaged.rename(folder)
        server.until(lambda: server.events("reload_failed"))
        assert "is damaged" in server.events("reload_failed")[0]["error"]
        assert server.post(png()).json()["predictions"][0]["label"] == answer["label"]
