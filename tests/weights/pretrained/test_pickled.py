"""Files of torch.save hold more than weights: nothing of it is imported or called, and the weights are read."""

import argparse
import builtins
import collections
import datetime
import enum
import functools
import os
import pathlib
import pickle
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from megavit.errors import BundleError, MegavitError
from megavit.weights.pretrained.checkpoint_files import read_checkpoint
from megavit.weights.pretrained.pickled import Placeholder, load_pickled
from megavit.weights.pretrained.pretrained import load_pretrained

CALLED: list[str] = []


class Settings(dict[str, Any]):
    """Of a kind that training scripts keep their options in: a dictionary with attributes."""


class Slots:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, [2]


class Kind(enum.Enum):
    ONE = 1


def hook(text: str) -> str:
    CALLED.append(text)
    return text


def vit(**changes: Any) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes | changes)


BESIDE: dict[str, Callable[[], Any]] = {
    "argparse": lambda: argparse.Namespace(lr=0.1, out=Path("run")),
    "path": lambda: pathlib.PurePosixPath("run"),
    "NumPy": lambda: {"best": np.float64(0.9), "seen": np.arange(3), "kind": np.dtype("int8")},
    "defaultdict": lambda: collections.defaultdict(list, {"loss": [1.0]}),
    "Counter": lambda: collections.Counter("abc"),
    "date": lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "dictionary of a class": lambda: Settings(a=1, b=Settings(c=[1])),
    "slots": Slots,
    "enum": lambda: {Kind.ONE: 1},
    "function": lambda: functools.partial(hook, text="called"),
    "method": lambda: Path.home,
    "random state": lambda: np.random.default_rng(0),
    "set": lambda: {frozenset({1}), "a"},
    "namespace": lambda: types.SimpleNamespace(a=complex(1, 2)),
    "class": lambda: argparse.ArgumentParser,
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", BESIDE)
def test_what_training_scripts_save_beside_the_weights_does_not_keep_them_from_being_read(
    kind: str, zipped: bool, tmp_path: Path
) -> None:
    tensors = vit().state_dict()
    saved = {"args": BESIDE[kind](), "model": tensors, "epoch": 3}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    CALLED.clear()
    source = load_pretrained(str(tmp_path / "a.pth"))
    assert torch.equal(source.tensors["mlp_head.weight"], tensors["head.weight"])
    assert not CALLED


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_not_loaded_is_said(zipped: bool, tmp_path: Path) -> None:
    saved = {"model": vit().state_dict(), "args": argparse.Namespace(out=pathlib.PurePosixPath("a"))}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    (reported,) = [one for one in load_pretrained(str(tmp_path / "a.pth")).notes if "skipped other objects" in one]
    assert reported.endswith("could run code: argparse.Namespace, pathlib.PurePosixPath")


def test_a_model_saved_whole_is_read_without_its_class(tmp_path: Path) -> None:
    model: Any = vit()
    torch.save({"net": nn.Sequential(nn.Identity(), model), "epoch": 1}, tmp_path / "a.pth")
    tables = read_checkpoint(tmp_path / "a.pth").tables
    assert tables["net"].keys() == {f"1.{name}" for name in model.state_dict()}
    assert torch.equal(
        load_pretrained(str(tmp_path / "a.pth")).tensors["mlp_head.bias"], model.state_dict()["head.bias"]
    )


class Reduced:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


MALICIOUS: dict[str, Callable[[Path], Any]] = {
    "system": lambda mark: Reduced(os.system, f"touch {mark}"),
    "eval": lambda mark: Reduced(builtins.eval, f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: Reduced(builtins.exec, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Reduced(builtins.open, str(mark), "w"),
    "Popen": lambda mark: Reduced(subprocess.Popen, ["touch", str(mark)]),
    "getattr": lambda mark: Reduced(builtins.getattr, Reduced(builtins.__import__, "os"), "system"),
    "import": lambda _: Reduced(builtins.__import__, "antigravity"),
    "reduce of a call": lambda mark: Reduced(functools.reduce, builtins.getattr, [Path(mark), "touch"]),
    "map": lambda mark: Reduced(list, Reduced(map, Path.touch, [Path(mark)])),
    "torch.load": lambda mark: Reduced(torch.load, str(mark.parent / "second.pth")),
    "torch.hub": lambda _: Reduced(torch.hub.load, "nobody/nothing", "model"),
    "torch.jit": lambda mark: Reduced(torch.jit.load, str(mark)),
    "our function": lambda _: Reduced(hook, "called"),
    "pickle.loads": lambda mark: Reduced(pickle.loads, pickle.dumps(Reduced(os.mkdir, str(mark)))),
    "setattr": lambda _: Reduced(builtins.setattr, hook, "was_here", 1),
}


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Path]:
    """A path that must not come to be; nothing may be imported or called either."""
    CALLED.clear()
    before = set(sys.modules)
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists()
    assert not CALLED
    assert "antigravity" not in set(sys.modules) - before
    assert not hasattr(hook, "was_here")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("attack", MALICIOUS)
def test_nothing_that_a_file_names_is_called(attack: str, zipped: bool, untouched: Path, tmp_path: Path) -> None:
    saved = {"model": vit().state_dict(), "run": MALICIOUS[attack](untouched)}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    try:
        source = load_pretrained(str(tmp_path / "a.pth"))
    except BundleError as error:
        assert "could run code" in str(error)
        assert "weights_only" not in str(error)
    else:
        assert any("skipped other objects in the file" in sentence for sentence in source.notes)


def test_an_object_of_an_unknown_class_is_a_stand_in_whatever_is_done_with_it(tmp_path: Path) -> None:
    torch.save({"run": Reduced(hook, "called"), "slots": Slots(), "options": Settings(a=1)}, tmp_path / "a.pth")
    content, unknown = load_pickled(tmp_path / "a.pth")
    assert {type(value) for value in content.values()} == {Placeholder}
    assert content["options"]["a"] == 1
    assert {name.rpartition(".")[2] for name in unknown} == {"hook", "Slots", "Settings"}


def test_no_stand_in_is_left_allowed_behind(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    torch.save({"run": argparse.Namespace(), "w": torch.zeros(2)}, tmp_path / "a.pth")
    load_pickled(tmp_path / "a.pth")
    assert torch.serialization.get_safe_globals() == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)


def test_tables_within_tables_and_themselves_have_an_end(tmp_path: Path) -> None:
    deep: list[Any] = []
    inner = deep
    for _ in range(200):
        inner.append([])
        inner = inner[0]
    itself: dict[str, Any] = {"w": torch.zeros(2)}
    itself["again"] = itself
    torch.save({"deep": deep, "itself": itself}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").tables.keys() == {"itself"}


@pytest.mark.parametrize("suffix", ["pth", "npz", "safetensors", "legacy"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_changed_bytes_is_read_or_refused(suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix.replace('legacy', 'pt')}"
    whole = tmp_path / f"whole.{suffix}"
    if not whole.exists():
        tensors = {"a.weight": torch.ones(4, 4), "b": torch.zeros(3)}
        saved = {"model": tensors, "args": argparse.Namespace(a=np.float32(1))}
        if suffix == "npz":
            np.savez(whole, a=np.ones((4, 4)), b=np.zeros(3))
        elif suffix == "safetensors":
            save_file(tensors, whole)
        else:
            torch.save(saved, whole, _use_new_zipfile_serialization=suffix == "pth")
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([None, None, len(content) // 2]))])
    try:
        load_pretrained(str(path))
    except MegavitError as error:
        assert "weights_only" not in str(error)


def test_a_program_is_said_to_be_one(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript has no future
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "a.pt")
    with pytest.raises(BundleError, match=r"is a TorchScript file, .*torch\.jit\.load\(FILE\)\.state_dict\(\)"):
        load_pretrained(str(tmp_path / "a.pt"))
