import math
from typing import Any

import pytest
import torch

from benchmarks.parity.__main__ import as_markdown, compare, difference
from benchmarks.parity.models import MODELS
from benchmarks.parity.stages import FAMILIES, file_tensors, table_tensors
from megavit.weights.keys import check_shapes, our_shapes
from tests.parity.small import SMALL

# Of theirs, what ours does not have.
LEFT_OUT = ("pooler.", "mask_token")


@pytest.mark.parametrize("name", MODELS)
def test_shapes_alone_tell_every_real_model(name: str) -> None:
    """As many heads, which no shape has, and every parameter ours, left out by name, or 0 in theirs."""
    family, build = MODELS[name]
    peer: Any = FAMILIES[family].peer
    with torch.device("meta"):
        theirs: Any = build()
    of_hugging_face = hasattr(peer, "known")
    shapes = {name: tuple(tensor.shape) for name, tensor in table_tensors(peer, file_tensors(theirs)).items()}
    config = peer.config_of(shapes, {})
    rules = peer.table(config)
    check_shapes(rules, shapes, name)
    heads = theirs.config.num_attention_heads if of_hugging_face else theirs.blocks[0].attn.num_heads
    assert config.heads == heads
    if of_hugging_face:
        assert peer.known(theirs.config.to_dict())["heads"] == heads

    left_out = sum(p.numel() for name, p in theirs.named_parameters() if any(part in name for part in LEFT_OUT))
    zeros = sum(math.prod(piece.shape) for rule in rules for piece in rule.theirs if piece.name is None)
    ours = sum(math.prod(shape) for shape in our_shapes(config).values())
    assert sum(p.numel() for p in theirs.parameters()) - left_out == ours - zeros


def test_the_worst_block_is_what_the_table_has() -> None:
    row = compare("Hugging Face ViT", SMALL["ViT, classes"].make())
    assert list(row["stages"]) == ["patches", "blocks", "norm", "logits"]
    assert all(0 < found["relative"] < 1e-5 for found in row["stages"].values())
    assert row["family"] == "Hugging Face ViT" and row["image"] == [32, 32]


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
