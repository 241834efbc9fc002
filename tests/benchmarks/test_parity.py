import math
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from benchmarks.parity.__main__ import compare, difference
from benchmarks.parity.models import MODELS
from benchmarks.parity.stages import FAMILIES, file_tensors, table_tensors
from benchmarks.parity.tables import as_markdown
from megavit.weights.keys import check_shapes, our_shapes, their_shapes
from tests.parity.small import SMALL

# Of theirs, what ours does not have.
LEFT_OUT = ("pooler.", "mask_token")


@pytest.mark.parametrize("name", MODELS)
def test_shapes_alone_tell_every_real_model(name: str) -> None:
    """As many heads, which no shape has, and every parameter ours, left out by name, or 0 in theirs."""
    family, build = FAMILIES[MODELS[name][0]], MODELS[name][1]
    peer: Any = family.peer
    with torch.device("meta"):
        theirs: Any = build()
    shapes = {name: tuple(tensor.shape) for name, tensor in table_tensors(peer, file_tensors(theirs)).items()}
    config = peer.config_of(shapes, family.said(theirs) if "SimpleViT" in name else {})
    rules = peer.table(config)
    check_shapes(rules, shapes, name)
    assert heads_in(theirs) == {config.heads}
    if MODELS[name][0].startswith(("Hugging Face", "OpenCLIP")):
        assert family.said(theirs)["heads"] == config.heads

    left_out = sum(p.numel() for name, p in theirs.named_parameters() if any(part in name for part in LEFT_OUT))
    taken = sum(math.prod(shape) for shape in their_shapes(rules).values())
    assert sum(p.numel() for p in theirs.parameters()) - left_out == taken
    pieces = [piece for rule in rules for piece in rule.theirs]
    ours = sum(math.prod(shape) for shape in our_shapes(config).values())
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
