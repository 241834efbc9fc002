"""Archives of arrays are read as they are, without executing anything, or refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megavit.errors import BundleError
from megavit.weights.npz import read_npz


def test_arrays_come_by_name_and_type(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {
        "a/kernel": np.arange(6.0).reshape(2, 3),
        "b": np.ones(2, np.float16),
        "step": np.int64(7),
    }
    np.savez(tmp_path / "w.npz", **wanted)
    tensors = read_npz(tmp_path / "w.npz")
    assert tensors.keys() == wanted.keys()
    assert tensors["a/kernel"].dtype == torch.float64
    assert tensors["step"].item() == 7
    assert torch.equal(tensors["b"], torch.ones(2, dtype=torch.float16))


def test_two_bytes_without_a_meaning_are_bfloat16(tmp_path: Path) -> None:
    wanted = torch.randn(3, 4).bfloat16()
    np.savez(tmp_path / "w.npz", w=wanted.view(torch.int16).numpy().view("V2"))
    assert torch.equal(read_npz(tmp_path / "w.npz")["w"], wanted)


def test_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.array([{}], dtype=object))
    with pytest.raises(BundleError, match="cannot be read as an archive of arrays"):
        read_npz(tmp_path / "w.npz")


def test_an_archive_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", w=np.zeros(1_000_000))
    with pytest.raises(BundleError, match="far more than weights do"):
        read_npz(tmp_path / "w.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"w\.npz cannot be read"):
        read_npz(tmp_path / "w.npz")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"w\.npz cannot be read"):
        read_npz(tmp_path / "w.npz")


def test_an_archive_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", w=np.random.default_rng(0).normal(size=50))
    whole = (tmp_path / "w.npz").read_bytes()
    for end in range(0, len(whole), 37):
        (tmp_path / "w.npz").write_bytes(whole[:end])
        with pytest.raises(BundleError, match=r"w\.npz"):
            read_npz(tmp_path / "w.npz")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.random.default_rng(0).normal(size=50))
    damaged = bytearray((tmp_path / "w.npz").read_bytes())
    damaged[300] ^= 4
    (tmp_path / "w.npz").write_bytes(damaged)
    with pytest.raises(BundleError, match="cannot be read"):
        read_npz(tmp_path / "w.npz")
