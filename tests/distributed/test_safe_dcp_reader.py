import io
import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING

from megavit.distributed.safe_dcp_reader import INDEX, IndexUnpickler, get_shapes, read_index
from megavit.errors import BundleError


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"weight": torch.ones(3, 2)}, storage_writer=dcp.FileSystemWriter(tmp_path), no_dist=True)
    return tmp_path


def test_an_index_of_tensors_is_read(folder):
    index = read_index(folder, {"__0_0.distcp"})
    assert get_shapes(index) == {"weight": (3, 2)}


def test_an_index_that_would_run_something_does_not(folder, tmp_path):
    made = tmp_path / "made"
    (folder / INDEX).write_bytes(pickle.dumps(Harmful(made)))
    with pytest.raises(BundleError, match="is not allowed"):
        read_index(folder, set())
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"words", pickle.dumps({"a": 1})])
def test_what_is_no_index_is_refused(folder, content):
    (folder / INDEX).write_bytes(content)
    with pytest.raises(BundleError, match="metadata"):
        read_index(folder, {"__0_0.distcp"})


def test_an_index_of_files_elsewhere_is_refused(folder):
    with pytest.raises(BundleError, match=r"refers to files outside the checkpoint: __0_0\.distcp"):
        read_index(folder, {"other.distcp"})


def test_an_index_of_more_than_tensors_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"words": b"bytes"}, storage_writer=dcp.FileSystemWriter(tmp_path), no_dist=True)
    with pytest.raises(BundleError, match="is not allowed"):
        read_index(tmp_path, {"__0_0.distcp"})


class Attribute:
    """Is pickled as a call of getattr, as enumerations are by some versions of Python."""

    def __init__(self, kind: object, name: str) -> None:
        self.arguments = kind, name

    def __reduce__(self):
        return getattr, self.arguments


def test_of_getattr_only_values_of_enumerations_are_given():
    value = next(iter(_MEM_FORMAT_ENCODING))
    assert IndexUnpickler(io.BytesIO(pickle.dumps(Attribute(type(value), value.name)))).load() is value
    with pytest.raises(BundleError, match="is not allowed"):
        IndexUnpickler(io.BytesIO(pickle.dumps(Attribute(dcp.metadata.Metadata, "__init__")))).load()
