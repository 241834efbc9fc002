import math
from dataclasses import replace

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import Design, ViTConfig
from megavit.data.augment import normalize
from megavit.distributed.context import ParallelContext
from megavit.explain.attention_hooks import record_attention
from megavit.model.attention import Attention
from megavit.model.vit import MegaVit
from megavit.model.zeta import ZetaAttention
from megavit.runtime.seeds import seed_all
from megavit.training.loop.logit_monitor import NUM_IMAGES, LogitMonitor, compute_max_logits
from tests.helpers.training import make_task

SIZE = Preprocessing(height=8, width=8, channels=1)
TASK = replace(make_task(), preprocessing=SIZE)
DESIGNS = {
    "parallel": Design(),
    "rotary": Design(positions="rope", registers=2, norm="rms"),
    "plain": Design(block="serial", qk_norm=False, qkv_bias=True, norm_bias=True),
    "zeta": Design(block="zeta", qk_norm=False, norm_bias=True),
}


def model_of(design: Design, depth: int = 2) -> MegaVit:
    seed_all(0)
    sizes = {"image_size": 8, "patch_size": 2, "channels": 1, "dim": 16, "heads": 4, "dim_head": 8, "mlp_dim": 32}
    return MegaVit.from_config(ViTConfig(**sizes, depth=depth, num_classes=3, design=design))


def attention_of(model: MegaVit, place: int) -> Attention | ZetaAttention:
    attention = model.get_submodule(f"transformer.layers.{place}.attention")
    assert isinstance(attention, Attention | ZetaAttention)
    return attention


def images_of(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, height, width), generator=torch.manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_largest_logits_are_those_whose_softmax_the_model_mixes_by(design):
    model, images = model_of(DESIGNS[design]), images_of(4)
    for place in range(model.config.depth):
        attention_of(model, place).to_qkv.weight.data *= 3
    recorded = record_attention(model, normalize(images, SIZE))
    found = compute_max_logits(model, images, SIZE)
    assert found.head == pytest.approx(recorded.logits.abs().max().item(), rel=1e-6)
    # Of a softmax only differences of logits are left: no two of a row are further apart than twice the largest.
    ranges = [layer.log().amax(dim=-1) - layer.log().amin(dim=-1) for layer in recorded.layers]
    assert max(one.max().item() for one in ranges) <= 2 * found.attention * (1 + 1e-4)


def test_the_largest_logit_is_that_of_the_layer_and_image_where_it_is():
    model, images = model_of(DESIGNS["plain"], depth=3), images_of(5)
    layer = attention_of(model, 1)
    layer.to_qkv.weight.data *= 10
    seen = []
    layer.register_forward_pre_hook(lambda attention, given: seen.append(attention.project(given[0])))
    found = compute_max_logits(model, images, SIZE)
    query, key, _ = seen[0]
    by_hand = torch.einsum("bhqk,bhtk->bhqt", query, key).abs().max().item() / math.sqrt(8)
    assert found.attention == pytest.approx(by_hand, rel=1e-5)
    assert found.attention > 10 * compute_max_logits(model_of(DESIGNS["plain"], depth=3), images, SIZE).attention


@pytest.mark.parametrize("design", ["parallel", "rotary", "zeta"])
def test_images_of_different_sizes_in_one_sequence_meet_only_themselves(design):
    size = Preprocessing(height=8, width=8, channels=1, keep_aspect=True, patch_size=2)
    model = model_of(DESIGNS[design])
    shapes = [(8, 8), (4, 8), (8, 4), (6, 6), (4, 8)]
    images = [images_of(1, *shape)[0] for shape in shapes]
    alone = [compute_max_logits(model, image[None], SIZE) for image in images]
    together = compute_max_logits(model, images, size)
    assert together.attention == pytest.approx(max(one.attention for one in alone), rel=1e-4)
    assert together.head == pytest.approx(max(one.head for one in alone), rel=1e-4)


def test_looking_changes_nothing_and_leaves_nothing_behind():
    model, images = model_of(DESIGNS["parallel"]).train(), images_of(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    assert compute_max_logits(model, images, SIZE) == compute_max_logits(model, images, SIZE)
    assert torch.equal(random, torch.get_rng_state()) and model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers_show(dtype):
    model, images = model_of(DESIGNS["parallel"]), images_of(2)
    attention_of(model, 0).to_qkv.weight.data[0, 0] = math.nan
    found = compute_max_logits(model, images, SIZE, dtype)
    assert math.isnan(found.attention) and math.isnan(found.head)


class FeedOf:
    """Images in memory, as a feed gives them, and which of them were asked for."""

    def __init__(self, count: int) -> None:
        self.images, self.asked = images_of(count), []

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, order):
        self.asked += order
        return ((self.images[places], None) for places in order)


@pytest.mark.parametrize("count", [1, 5, NUM_IMAGES, 1000])
def test_the_images_are_spread_over_all_and_of_several_processes_each_has_its_part(count):
    one, whole = FeedOf(count), ParallelContext()
    monitor = LogitMonitor(one, TASK, whole)  # pyrefly: ignore[bad-argument-type]
    model = model_of(DESIGNS["parallel"])
    (asked,) = one.asked
    assert len(set(asked)) == min(count, NUM_IMAGES) and asked[0] == 0 and max(asked) >= count - count // NUM_IMAGES - 1
    assert monitor(model) == compute_max_logits(model, one.images[asked], SIZE)
    parts: list[int] = []
    for place in range(2):
        feed, parallel = FeedOf(count), ParallelContext()
        parallel.dp_rank, parallel.dp_world_size = place, 2
        LogitMonitor(feed, TASK, parallel)  # pyrefly: ignore[bad-argument-type]
        parts += feed.asked[0]
    assert set(parts) == set(asked)


def test_compiled_layers_are_looked_into_as_others_are():
    model, images = model_of(DESIGNS["parallel"]), images_of(4)
    wanted = compute_max_logits(model, images, SIZE)
    for layer in model.transformer.layers:
        layer.compile()
    assert compute_max_logits(model, images, SIZE) == wanted
