"""Tensors in and out of files, and into a model only if every one fits."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megavit.errors import BundleError
from megavit.weights.bundle import safetensors_io
from megavit.weights.bundle.safetensors_io import load_weights, read_tensors, write_tensors
from tests.helpers.bundles import make_model


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3),
            st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.int64, torch.bool]),
        ),
        max_size=4,
    )
)
def test_tensors_survive_their_file(tmp_path_factory, kinds):
    path = tmp_path_factory.getbasetemp() / "t.safetensors"
    tensors = {name: (torch.rand(shape) * 9).to(dtype) for name, (shape, dtype) in kinds.items()}
    write_tensors(path, tensors)
    found = read_tensors(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_view_is_written_as_what_it_shows(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    write_tensors(tmp_path / "t", {"turned": whole.T, "part": whole[1:, ::2]})
    found = read_tensors(tmp_path / "t")
    assert torch.equal(found["turned"], whole.T)
    assert torch.equal(found["part"], whole[1:, ::2])


def test_a_parameter_is_written_without_its_gradient(tmp_path):
    write_tensors(tmp_path / "t", {"w": torch.nn.Parameter(torch.ones(2))})
    assert not read_tensors(tmp_path / "t")["w"].requires_grad


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"none\.safetensors cannot be read"):
        read_tensors(tmp_path / "none.safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        read_tensors(tmp_path)
    for content in (b"", b"{}", b"\xff" * 64, b"\x80\x04\x95"):
        (tmp_path / "t").write_bytes(content)
        with pytest.raises(BundleError, match="cannot be read"):
            read_tensors(tmp_path / "t")


def test_weights_of_another_model_change_nothing_in_this_one():
    model, other = make_model(), make_model(5, seed=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BundleError, match=r"mlp_head\.weight: has shape \(5, 8\), expected \(3, 8\)"):
        load_weights(model, other.state_dict(), "other")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_of_the_same_model_are_taken_over():
    model, other = make_model(), make_model(seed=1)
    load_weights(model, other.state_dict(), "other")
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_on_windows_a_file_that_was_read_is_not_in_use(tmp_path, monkeypatch):
    """It would be neither replaced nor deleted while it is mapped into memory."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(8.0)})
    monkeypatch.setattr(safetensors_io, "IS_WINDOWS", True)
    tensors = read_tensors(path)
    path.write_bytes(bytes(path.stat().st_size))  # in place
    assert torch.equal(tensors["a"], torch.arange(8.0))
    with pytest.raises(BundleError, match="may be damaged"):
        read_tensors(path)
