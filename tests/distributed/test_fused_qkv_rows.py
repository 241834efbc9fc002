import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.vit import Design, ViTConfig
from megavit.distributed.fused_qkv_rows import count_fused, group_by_matrix, group_by_process
from megavit.distributed.tensor_parallel_support import check_tensor_parallel
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit

SIZES = {"image_size": 8, "patch_size": 2, "num_classes": 3, "dim": 16, "depth": 1, "heads": 6, "mlp_dim": 32}
counts = st.integers(1, 4)


@given(counts, counts, counts)
def test_rows_come_back_to_their_places(parts, processes, size):
    rows = torch.arange(parts * processes * size)
    assert torch.equal(group_by_matrix(group_by_process(rows, parts, processes), parts, processes), rows)


@given(counts, counts, counts)
def test_each_process_has_its_run_of_each_part(parts, processes, size):
    rows = torch.arange(parts * processes * size)
    for number, mine in enumerate(group_by_process(rows, parts, processes).chunk(processes)):
        expected = [part.chunk(processes)[number] for part in rows.chunk(parts)]
        assert torch.equal(mine, torch.cat(expected))


def test_queries_keys_values_and_the_halves_of_swiglu_are_fused_and_nothing_else():
    for mlp in ("gelu", "swiglu"):
        design = Design(mlp=mlp, qkv_bias=True)
        config = ViTConfig(**SIZES, design=design)
        parts = {name: count_fused(name, config) for name, _ in MegaVit.from_config(config).named_parameters()}
        several = {name.split("layers.0.")[1]: count for name, count in parts.items() if count > 1}
        halves = {"mlp.into.weight": 2, "mlp.into.bias": 2} if mlp == "swiglu" else {}
        assert several == {"attention.to_qkv.weight": 3, "attention.to_qkv.bias": 3} | halves


@pytest.mark.parametrize(("processes", "reason"), [(4, "heads, 6"), (3, "mlp_dim, 32")])
def test_layers_that_cannot_be_divided_are_refused(processes, reason):
    with pytest.raises(ConfigError, match=reason):
        check_tensor_parallel(ViTConfig(**SIZES), processes)


def test_norms_within_a_branch_are_refused_but_by_one_process():
    config = ViTConfig(**SIZES, design=Design(attention_out_norm=True))
    check_tensor_parallel(config, 1)
    with pytest.raises(ConfigError, match="norms inside"):
        check_tensor_parallel(config, 2)
