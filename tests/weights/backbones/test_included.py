"""A backbone inside this package is unpacked to what was packed, rounded, and serves without a network."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.backbones import Included
from megavit.errors import OutputError
from megavit.weights.backbones import included
from megavit.weights.backbones.download import Patience
from megavit.weights.backbones.fetch import fetch_backbone, load_backbone, load_source
from megavit.weights.backbones.included import pack, unpack
from megavit.weights.backbones.local import fetched_folder, find_backbone, find_backbones
from megavit.weights.bundle.bundle import load_bundle
from tests.helpers.backbones import SHIPPED, make_row, use_table

MATRIX = "transformer.layers.0.mlp.weight"


@given(seed=st.integers(0, 2**16), size=st.floats(1e-2, 1e3), rows=st.integers(256, 260))
def test_a_weight_is_rounded_by_at_most_half_a_step_of_its_group(seed: int, size: float, rows: int) -> None:
    matrix = size * torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))
    packed = pack({MATRIX: matrix})
    assert sum(tensor.nbytes for tensor in packed.values()) <= matrix.numel() * 6.25 / 8 + 16
    found = unpack(packed)[MATRIX]
    steps = matrix.abs().amax(dim=1, keepdim=True) / 31
    # A factor in float16 is off by up to 2^-11 of it, for the largest weights 31 times.
    assert bool(((found - matrix).abs() <= 0.52 * steps).all())
    assert torch.equal(unpack(pack({MATRIX: found}))[MATRIX], found)


def test_other_tensors_are_kept_in_half_precision() -> None:
    tensors = {"positions.table": torch.randn(300, 64), "transformer.layers.0.norm.weight": torch.randn(64)}
    found = unpack(pack(tensors))
    assert all(torch.equal(found[name], tensor.half().float()) for name, tensor in tensors.items())


def test_zeros_stay_zero() -> None:
    assert not unpack(pack({MATRIX: torch.zeros(256, 64)}))[MATRIX].any()


def test_the_shipped_backbone_is_whole_and_as_small_as_it_says(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    assert isinstance(SHIPPED.where, Included)
    files = [path for path in (included.FOLDER / SHIPPED.name).iterdir() if path.is_file()]
    assert round(SHIPPED.where.num_bytes / 1e5) == round(sum(path.stat().st_size for path in files) / 1e5) <= 120
    path = find_backbone(SHIPPED)
    assert path is not None and path == fetched_folder() / SHIPPED.name
    bundle = load_bundle(path, verify=True)
    config = bundle.single_model.config
    assert sum(parameter.numel() for parameter in bundle.single_model.parameters()) == SHIPPED.parameters
    assert config.patch_hw == (SHIPPED.patch_size,) * 2 and config.image_hw == (SHIPPED.image_size,) * 2
    loaded = load_backbone(SHIPPED, path)
    assert loaded.image_size == SHIPPED.image_size and loaded.origin.license == SHIPPED.license
    assert not loaded.is_pretraining and not loaded.seen


def test_it_is_the_last_that_is_found_and_unpacked_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    other = make_row("other", "timm:other")
    use_table(monkeypatch, SHIPPED, other)
    (found,) = find_backbones()
    assert found.backbone is SHIPPED
    written = (found.path / "megavit.json").stat().st_ino
    assert find_backbone(SHIPPED) == found.path and (found.path / "megavit.json").stat().st_ino == written


def test_without_a_cache_it_is_not_on_this_machine_and_asking_for_it_says_why(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "file"))
    assert find_backbone(SHIPPED) is None
    said: list[str] = []
    with pytest.raises(OutputError, match=f"the backbone {SHIPPED.name}"):
        load_source(SHIPPED.name, said.append)
    assert said and said[0].startswith(f"unpacking {SHIPPED.name}: about ")
    with pytest.raises(OutputError):
        fetch_backbone(SHIPPED, Patience(), lambda _: None)


def test_a_damaged_copy_is_unpacked_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    path = find_backbone(SHIPPED)
    assert path is not None
    (path / "model.safetensors").write_bytes(b"damaged")
    assert load_backbone(SHIPPED, path).config.depth == 8
    assert load_bundle(path).info.model.depth == 8
