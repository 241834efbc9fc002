"""The graph for OpenVINO against PyTorch, on real pictures and on models of every design."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2 import functional as transforms

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS, preset
from megavit.config.vit import PLAIN_VIT, Design, Pool, ViTConfig
from megavit.data.augment import normalize
from megavit.engine import openvino as openvino_engine
from megavit.engine.graph import can_build
from megavit.engine.graph_inputs import GraphInputs
from megavit.engine.openvino import OpenVino
from megavit.model.layers import BatchNorm
from megavit.model.vit import MegaVit
from megavit.runtime.processors import allowed_cpus
from tests.properties.test_model import configs, images

UP_TO_S = list(PRESETS)[: list(PRESETS).index("S") + 1]
"""Presets that fit into a test's memory and time; larger ones differ from them in size alone."""


def pictures(height: int, width: int) -> torch.Tensor:
    """Two photographs, uint8."""
    whole = torch.stack([torch.from_numpy(pixels.copy()).permute(2, 0, 1) for pixels in load_sample_images().images])
    return transforms.resize(whole, [height, width], antialias=True)


def grown(config: ViTConfig, seed: int = 0) -> MegaVit:
    """A model whose every part tells: trained weights are larger than initial ones, and biases are not zero."""
    model = MegaVit.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_factor = parameter.ndim == 1 and name.endswith(("weight", "factor"))
            parameter.add_(noise * (0.1 if is_factor or parameter.ndim == 1 else 0.5 * parameter.shape[-1] ** -0.5))
    return model


def preprocessing_of(config: ViTConfig) -> Preprocessing:
    """With another mean and spread for each channel."""
    count = config.channels
    mean, std = (tuple(start + 0.05 * i for i in range(count)) for start in (0.4, 0.2))
    height, width = (max(2, side) for side in config.image_hw)
    return Preprocessing(height=height, width=width, channels=count, mean=mean, std=std)


@torch.no_grad()
def run_pytorch(model: MegaVit, x: torch.Tensor) -> list[torch.Tensor]:
    pooled = model.features(normalize(x, preprocessing_of(model.config))).pooled
    return [pooled, model.mlp_head(pooled)]


def difference(model: MegaVit, x: torch.Tensor) -> float:
    """The largest of features and logits, each of its largest value."""
    found = OpenVino(model, preprocessing_of(model.config), "float32")(x)
    worst = 0.0
    for ours, expected in zip(found, run_pytorch(model, x), strict=True):
        assert ours.shape == expected.shape and ours.dtype == torch.float32
        worst = max(worst, ((ours - expected).abs().max() / expected.abs().max().clamp(min=1e-3)).item())
    return worst


@pytest.mark.parametrize("name", UP_TO_S)
def test_every_preset_answers_as_pytorch_does_on_real_pictures(name: str) -> None:
    model = grown(preset(name, num_classes=7))
    assert difference(model, pictures(*model.config.image_hw)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("floats", [True, False])
def test_pixels_that_are_not_rounded_are_answered_for_as_pytorch_does(floats: bool) -> None:
    model = grown(preset("nano", num_classes=7, image_size=28))
    preprocessing = replace(preprocessing_of(model.config), resize_dtype="float32")
    x = pictures(28, 28)
    x = x / 255 + 0.001 if floats else x
    pooled = model.features(normalize(x, preprocessing)).pooled
    found, logits = OpenVino(model, preprocessing, "float32")(x)
    torch.testing.assert_close(found, pooled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, model.mlp_head(pooled), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("design", [Design(), PLAIN_VIT], ids=["parallel", "serial"])
@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", "map"])
@pytest.mark.parametrize("size", [(28, 28), (35, 21), (7, 56)])
def test_blocks_pools_and_odd_sizes(design: Design, pool: Pool, size: tuple[int, int]) -> None:
    config = replace(preset("nano", num_classes=7, image_size=28, patch_size=7, design=design), pool=pool)
    assert difference(grown(config), pictures(*size)) < 1e-5


@settings(max_examples=settings().max_examples // 2)
@given(config=configs().filter(lambda config: config.design.block != "zeta"))
def test_models_of_any_design(config: ViTConfig) -> None:
    model = grown(config)
    rows, columns = config.grid
    for grid in (config.grid, (rows + 1, columns + 2)):
        x = (images(config, 3, grid) * 64 + 128).clamp(0, 255).to(torch.uint8)
        assert difference(model, x) < 1e-4  # few channels, so rounding counts for more


@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", "map"])
@pytest.mark.parametrize("patches", [3, 4])
def test_as_many_heads_as_tokens(pool: Pool, patches: int) -> None:
    """OpenVINO then takes one for the other where it knows all sizes."""
    config = replace(preset("nano", num_classes=7, image_size=(8, 8 * patches), patch_size=8), pool=pool)
    assert config.heads == 4
    assert difference(grown(config), pictures(*config.image_hw)) < 1e-5


@pytest.mark.parametrize(("design", "patch_size"), [(Design(stem="conv"), 4), (Design(stem="conv", norm="rms"), 8)])
def test_a_stem_of_convolutions(design: Design, patch_size: int) -> None:
    config = preset("nano", num_classes=7, patch_size=patch_size, design=design)
    assert difference(grown(config), pictures(*config.image_hw)) < 1e-5


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
def test_batch_norms_are_fused(pool: Pool) -> None:
    model = grown(replace(preset("hybrid-nano", num_classes=7), pool=pool))
    for module in model.modules():
        if isinstance(module, BatchNorm):
            torch.nn.init.uniform_(module.mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.variance, 0.5, 2.0)
    assert difference(model, pictures(*model.config.image_hw)) < 1e-5


def test_zetascales_block_has_no_graph() -> None:
    config = preset("nano", design=Design(block="zeta", qk_norm=False, norm_bias=True, norm_eps=1e-5, patch_norm=True))
    assert not can_build(MegaVit.from_config(config))


@torch.no_grad()
@settings(max_examples=settings().max_examples // 4)
@given(
    batches=st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(1, 5)),
        min_size=2,
        max_size=6,
    ),
    pool=st.sampled_from(["cls", "mean", "map"]),
)
@example(batches=[(1, 2, 3), (1, 1, 1), (2, 4, 4)], pool="mean")
@example(batches=[(16, 2, 3), (16, 1, 1), (17, 4, 4)], pool="mean")
def test_answers_do_not_depend_on_what_came_before(batches: list[tuple[int, int, int]], pool: Pool) -> None:
    model = grown(replace(preset("nano", num_classes=7, patch_size=4), pool=pool, depth=1))
    engine = OpenVino(model, preprocessing_of(model.config), "float32")
    for count, rows, columns in batches:
        x = torch.randint(256, (count, 3, 4 * rows, 4 * columns), dtype=torch.uint8)
        for found, expected in zip(engine(x), run_pytorch(model, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_near() -> None:
    model = grown(preset("micro", num_classes=7))
    x = pictures(*model.config.image_hw)
    for found, expected in zip(
        OpenVino(model, preprocessing_of(model.config), "bfloat16")(x), run_pytorch(model, x), strict=True
    ):
        assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 7, 8, 12, 13, 31])
def test_batches_of_any_size_on_any_number_of_processors(count: int, threads: int) -> None:
    model, before = grown(preset("pico", num_classes=7)), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert difference(model, torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8)) < 1e-5
    finally:
        torch.set_num_threads(before)


def test_threads_get_their_own_answers() -> None:
    model = grown(preset("nano", num_classes=7))
    engine = OpenVino(model, preprocessing_of(model.config), "float32")
    counts = (1, 2, 3, 40, 41)  # the last two are divided among the processors
    inputs = [torch.randint(256, (counts[i % 5], 3, 32, 32 if i % 2 else 64), dtype=torch.uint8) for i in range(24)]
    found: dict[int, torch.Tensor] = {}

    def work(start: int) -> None:
        for i in range(start, len(inputs), 4):
            found[i] = engine(inputs[i])[1]

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, x in enumerate(inputs):
        torch.testing.assert_close(found[i], run_pytorch(model, x)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("images", [1, 19])
def test_positions_are_not_read_after_a_call(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ViTConfig(image_size=8, patch_size=4, num_classes=3, dim=16, depth=1, heads=2, mlp_dim=32)
    engine = OpenVino(grown(config), preprocessing_of(config), "float32")
    pixels = torch.randint(256, (images, 3, 8, 8), dtype=torch.uint8)
    freed: list[np.ndarray] = []
    for_shape = GraphInputs.for_shape

    def copies(self: GraphInputs, shape: Sequence[int]) -> dict[str, np.ndarray]:
        arrays = {name: array.copy() for name, array in for_shape(self, shape).items()}
        freed.extend(arrays.values())
        return arrays

    monkeypatch.setattr(GraphInputs, "for_shape", copies)
    expected = engine(pixels)
    for array in freed:
        array.fill(9)  # as the memory of an array that is no longer cached may hold anything
    torch.testing.assert_close(engine(pixels), expected)


@pytest.mark.parametrize("images", [1, 19])
def test_images_may_have_any_layout_in_memory(images: int) -> None:
    config = ViTConfig(image_size=8, patch_size=4, num_classes=3, dim=16, depth=1, heads=2, mlp_dim=32)
    engine = OpenVino(grown(config), preprocessing_of(config), "float32")
    pixels = torch.randint(0, 256, (images, 3, 8, 8), dtype=torch.uint8)
    expected = engine(pixels)
    for found, same in zip(engine(pixels.contiguous(memory_format=torch.channels_last)), expected, strict=True):
        torch.testing.assert_close(found, same)


def test_a_large_batch_is_computed_in_equal_parts_by_whoever_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ViTConfig(image_size=8, patch_size=4, num_classes=3, dim=16, depth=1, heads=2, mlp_dim=32)
    monkeypatch.setattr(openvino_engine, "IMAGES_PER_PART", 4)
    model = grown(config)
    engine = OpenVino(model, preprocessing_of(config), "float32")
    engine._threads = 2
    images = torch.randint(0, 256, (19, 3, 8, 8), dtype=torch.uint8)
    pooled, logits = engine(images)
    assert len(engine._thread_local.requests) == 4  # 19 // (2 × 4) parts for each of two streams
    expected = [engine(images[start : start + 3]) for start in range(0, 19, 3)]
    torch.testing.assert_close(pooled, torch.cat([part[0] for part in expected]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, torch.cat([part[1] for part in expected]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("counts", [(16, 15), (15, 16)])
def test_the_parts_of_a_batch_never_wait_for_one_another(counts: tuple[int, int]) -> None:
    config = ViTConfig(image_size=8, patch_size=4, num_classes=3, dim=16, depth=1, heads=2, mlp_dim=32)
    engine = OpenVino(grown(config), preprocessing_of(config), "float32")
    engine._threads = 2
    for count in counts:
        engine(torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8))
    # 15 images make parts of 8 and 7: in the graph that was compiled for 8, the second would find no free stream.
    assert sorted(index for _, index in engine._thread_local.requests) == [0, 0, 1, 1]


@pytest.mark.parametrize(("threads", "is_pinned"), [(allowed_cpus(), True), (1, allowed_cpus() == 1)])
def test_threads_are_pinned_to_processors_only_if_they_need_all(threads: int, is_pinned: bool) -> None:
    config = ViTConfig(image_size=8, patch_size=4, num_classes=3, dim=16, depth=1, heads=2, mlp_dim=32)
    engine = OpenVino(grown(config), preprocessing_of(config), "float32")
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    for engine._threads, count in ((threads, 1), (2, 16)):
        engine(images[:count])
    pinned = {key.is_split: graph.get_property("ENABLE_CPU_PINNING") for key, graph in engine._compiled.items()}
    assert pinned == {False: is_pinned, True: False}
