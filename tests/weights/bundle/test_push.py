"""Bundles and models go to a hub on loopback, and come back as they were."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

import megavit
from megavit.errors import BundleError, ConfigError, OutputError
from megavit.predict.predictor import load
from megavit.weights.bundle.push import push_bundle
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.command_line import run_megavit, run_megavit_json
from tests.helpers.fake_hub import closed_address
from tests.helpers.fake_upload_hub import TOKEN, UploadHub, serve_upload_hub

NAME = "hf-hub:ada/flowers"
# huggingface_hub's own upload of large files.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def use_upload_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    constants = huggingface_hub.constants
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    disable_progress_bars()  # they outlive the streams that a test captures
    with serve_upload_hub(UploadHub()) as served:
        use_upload_hub(monkeypatch, served.address, tmp_path / "cache")
        yield served
    enable_progress_bars()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "run" / "bundle")
    return tmp_path / "run"


def test_a_bundle_that_was_pushed_is_used_by_its_name_on_the_hub(hub, bundle):
    assert push_bundle(bundle, NAME) == f"{hub.address}/ada/flowers"
    pushed = hub.files["ada/flowers"]
    assert {"megavit.json", "model.safetensors", "README.md", "config.json"} <= pushed.keys()
    assert pushed["README.md"].startswith(b"---\nlibrary_name: megavit")
    assert not hub.private["ada/flowers"]
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    here, there = load(bundle, verify=True), load(NAME, verify=True)
    assert there.predict(image) == here.predict(image)


def test_a_second_push_replaces_the_files_of_the_first(hub, bundle, tmp_path):
    push_bundle(bundle, NAME)
    make_bundle(tmp_path / "other", make_model(seed=1))
    push_bundle(tmp_path / "other", NAME)
    weights = (tmp_path / "other" / "model.safetensors").read_bytes()
    assert hub.files["ada/flowers"]["model.safetensors"] == weights


def test_the_command_prints_where_the_bundle_is(hub, bundle, tmp_path):
    found = run_megavit_json("push", bundle, NAME, "--private", cwd=tmp_path)
    assert found == {"url": f"{hub.address}/ada/flowers"}
    assert hub.private == {"ada/flowers": True}


def test_a_model_alone_comes_back_from_the_hub_with_its_weights(hub, tmp_path):
    model = make_model()
    assert model.push_to_hub("ada/plain") == f"{hub.address}/ada/plain"
    found = megavit.MegaVit.from_pretrained("ada/plain")
    assert found.config == model.config and not found.training
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_model_of_a_bundle_on_the_hub_is_loaded_by_its_name(hub, bundle):
    megavit.push(bundle, NAME)
    found, here = megavit.MegaVit.from_pretrained("ada/flowers"), load(bundle).model
    assert torch.equal(found.state_dict()["mlp_head.weight"], here.state_dict()["mlp_head.weight"])


@pytest.mark.parametrize("name", ["ada/flowers", "hf-hub:flowers", "hf-hub:ada/a b", "timm:x", "hf-hub:a/b/c"])
def test_a_name_of_another_form_is_refused_with_an_example(bundle, name):
    with pytest.raises(ConfigError, match="hf-hub:USER/NAME"):
        push_bundle(bundle, name)


def test_without_a_token_the_error_says_how_to_log_in(hub, bundle, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    done = run_megavit("push", bundle, NAME, cwd=tmp_path)
    assert done.returncode == 2 and "hf auth login" in done.stderr
    assert hub.files == {}


def test_a_token_that_is_not_accepted_or_may_not_write_is_said(hub, bundle, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(OutputError, match="does not accept the token"):
        push_bundle(bundle, NAME)
    hub.read_only = ("hf_reader",)
    with pytest.raises(OutputError, match="may not write there"):
        push_bundle(bundle, NAME)


def test_where_there_is_no_network_the_error_says_so(hub, bundle, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", closed_address())
    with pytest.raises(OutputError, match="hub cannot be reached"):
        push_bundle(bundle, NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OutputError, match="HF_HUB_OFFLINE"):
        push_bundle(bundle, NAME)


def test_a_damaged_bundle_is_not_pushed(hub, bundle):
    (bundle / "bundle" / "README.md").write_text("other")
    with pytest.raises(BundleError, match="damaged"):
        push_bundle(bundle, NAME)
    assert hub.files == {}


def test_the_config_names_every_size(hub, bundle):
    push_bundle(bundle, NAME)
    config = json.loads(hub.files["ada/flowers"]["config.json"])
    assert config["model_type"] == "megavit" and config["dim"] == 8 and config["design"]["mlp"]
