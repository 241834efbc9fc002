import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torchvision.models.vision_transformer import VisionTransformer
from transformers import PreTrainedModel
from vit_pytorch import SimpleViT, ViT

from benchmarks.parity import __main__ as script
from benchmarks.parity import zetascale
from benchmarks.parity.__main__ import compare, difference
from benchmarks.parity.models import MODELS
from benchmarks.parity.stages import FAMILIES, file_tensors, load_our_model, our_stages, peer_stages, table_tensors
from benchmarks.parity.tables import STAGES, as_markdown, page_lines
from megavit.model.statistics import parameter_shapes
from megavit.weights.pretrained.mappings.key_mapping import check_shapes, their_shapes
from tests.helpers.peer_models import SMALL

pytestmark = pytest.mark.benchmarks

# Of theirs, what ours does not have.
LEFT_OUT = ("pooler.", "mask_token")
SIZES: dict[str, Any] = {"image_size": 24, "patch_size": 8, "num_classes": 5, "mlp_dim": 80}
VIT_PYTORCH: dict[str, Any] = SIZES | {"dim": 48, "depth": 3, "heads": 2}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_alone_tell_every_real_model(name: str) -> None:
    """As many heads, which no shape has, and every parameter ours, left out by name, or 0 in theirs."""
    family, build = FAMILIES[MODELS[name][0]], MODELS[name][1]
    peer: Any = family.peer
    with torch.device("meta"):
        theirs: Any = build()
    shapes = {name: tuple(tensor.shape) for name, tensor in table_tensors(peer, file_tensors(theirs)).items()}
    config = peer.config(shapes, family.file_settings(theirs) if "SimpleViT" in name else {})
    rules = peer.key_rules(config)
    check_shapes(rules, shapes, name)
    assert heads_in(theirs) == {config.heads}
    if MODELS[name][0].startswith(("Hugging Face", "OpenCLIP")):
        assert family.file_settings(theirs)["heads"] == config.heads

    left_out = sum(p.numel() for name, p in theirs.named_parameters() if any(part in name for part in LEFT_OUT))
    taken = sum(math.prod(shape) for shape in their_shapes(rules).values())
    assert sum(p.numel() for p in theirs.parameters()) - left_out == taken
    pieces = [piece for rule in rules for piece in rule.theirs]
    ours = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    assert ours == sum(math.prod(piece.shape) for piece in pieces)


def heads_in(theirs: Any) -> set[int]:
    """What its attentions say, of whichever library they are."""
    if isinstance(theirs, PreTrainedModel):
        return {theirs.config.num_attention_heads}
    said = [getattr(part, name, None) for part in theirs.modules() for name in ("num_heads", "heads")]
    return {heads for heads in said if isinstance(heads, int)}


def test_the_worst_block_is_what_the_table_has() -> None:
    row = compare("Hugging Face ViT", SMALL["ViT, classes"].make())
    assert list(row["stages"]) == ["patches", "blocks", "norm", "logits"]
    assert all(0 < found["relative"] < 1e-5 for found in row["stages"].values())
    assert row["family"] == "Hugging Face ViT" and row["image"] == [32, 32]


def open_clip_tower(quick_gelu: bool) -> Any:
    vision = {"image_size": 24, "patch_size": 8, "width": 48, "head_width": 8, "layers": 3}
    text = {"context_length": 5, "vocab_size": 11, "width": 16, "heads": 2, "layers": 1}
    settings: Any = {"embed_dim": 7, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}
    tower: Any = open_clip.CLIP(**settings).visual
    tower.settings = settings
    return tower


@pytest.mark.parametrize(
    ("family", "build"),
    [
        ("torchvision", lambda: VisionTransformer(**SIZES, num_layers=3, num_heads=1, hidden_dim=64)),
        ("OpenCLIP", lambda: open_clip_tower(quick_gelu=False)),
        ("OpenCLIP", lambda: open_clip_tower(quick_gelu=True)),
        ("vit-pytorch", lambda: ViT(**VIT_PYTORCH)),
        ("vit-pytorch", lambda: ViT(**VIT_PYTORCH, pool="mean")),
        ("vit-pytorch SimpleViT", lambda: SimpleViT(**VIT_PYTORCH)),
        ("zetascale", lambda: zetascale.MegaVit(**VIT_PYTORCH)),
    ],
)
def test_a_row_has_every_stage_of_every_library(family: str, build: Callable[[], Any]) -> None:
    row = compare(family, build())
    assert set(row["stages"]) == set(STAGES)
    assert all(found["relative"] < 1e-5 for found in row["stages"].values())


def test_a_wrong_layer_shows_from_there_on() -> None:
    theirs: Any = ViT(**VIT_PYTORCH).eval()
    ours = load_our_model(FAMILIES["vit-pytorch"], theirs)
    with torch.no_grad():  # in place, so ours, which has the same tensors, is given its own first
        ours.load_state_dict({name: tensor.clone() for name, tensor in ours.state_dict().items()}, assign=True)
        theirs.transformer.layers[1][1].net[4].bias[0] += 1
    images = torch.randn(1, 3, 24, 24)
    mine, yours = our_stages(ours, images), peer_stages(FAMILIES["vit-pytorch"], theirs, images)
    wrong = {stage for stage, tensor in yours.items() if difference(mine[stage], tensor)["relative"] > 1e-4}
    assert wrong == {"block 1", "block 2", "norm", "pooled", "logits"}


def test_differences_are_absolute_and_relative_to_the_peers_largest() -> None:
    found = difference(torch.tensor([1.0, -4.5]), torch.tensor([1.25, -4.0]))
    assert found == {"absolute": 0.5, "relative": 0.125}


def test_a_stage_that_a_peer_does_not_show_is_a_dash() -> None:
    name = next(iter(MODELS))
    row = {
        "family": "timm ViT",
        "parameters": 5_700_000,
        "image": [224, 192],
        "stages": {"patches": {"absolute": 1.2e-6, "relative": 5e-7}},
    }
    sizes = {"160 × 320": {way: {"absolute": 2e-6, "relative": 1e-6} for way in ("as it runs", "as it loads")}}
    results = {"machine": "a CPU", "versions": {"timm": "1"}, "models": {name: row}, "sizes": sizes}
    page = as_markdown(results).splitlines()
    assert f"| {name} | 5.7 | 224 × 192 | 1.2e-06 (5e-07) | – | – | – | – |" in page
    assert "| 160 × 320 | 2.0e-06 (1e-06) | 2.0e-06 (1e-06) |" in page


def test_a_page_has_the_worst_stage_and_the_answer() -> None:
    found = {stage: {"absolute": 1.0, "relative": relative} for stage, relative in (("blocks", 3e-6), ("norm", 1e-6))}
    names = list(MODELS)[:2]
    rows = {
        names[1]: {"parameters": 2_000_000, "stages": found},
        names[0]: {"parameters": 1_000_000, "stages": found | {"logits": {"absolute": 1.0, "relative": 4e-6}}},
    }
    sizes = {"160 × 320": {"as it runs": found["norm"], "as it loads": found["blocks"]}}
    lines = page_lines({"machine": "a CPU", "versions": {"timm": "1"}, "models": rows, "sizes": sizes})
    assert lines[-4:-2] == [f"| {names[0]} | 1.0 | 4e-06 | 4e-06 |", f"| {names[1]} | 2.0 | 3e-06 | 1e-06 |"]
    assert lines[-1].endswith("at 160 × 320, positions resampled: at most 3e-06.")


def test_models_are_added_only_to_a_table_of_the_same_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    results = script.read_results()
    assert results["models"] == results["sizes"] == {}
    (tmp_path / "parity.json").write_text(json.dumps(results))
    assert script.read_results() == results
    (tmp_path / "parity.json").write_text(json.dumps(results | {"versions": results["versions"] | {"timm": "0"}}))
    with pytest.raises(SystemExit, match="measure every model again"):
        script.read_results()
