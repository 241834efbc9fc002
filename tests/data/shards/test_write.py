"""Images into shards: whole, shuffled, as they were, and read as their folder would be."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data, scan_source
from megavit.data.shards import write as module
from megavit.data.shards.index import INDEX, parse_index
from megavit.errors import DataError, OutputError
from tests.helpers.difficult_images import encode_image
from tests.helpers.shards import CLASSES, make_class_folders, make_png, make_shards


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("splits", [("",), ("train", "test"), ("train", "val", "test")])
def test_shards_are_read_as_their_folder_is(splits, tmp_path):
    source = make_class_folders(tmp_path / "in", splits=splits)
    make_shards(source, tmp_path / "out")
    before, after = load_data(source, DataRecipe()), load_data(tmp_path / "out", DataRecipe())
    assert after.samples == before.samples
    assert after.classes == before.classes == CLASSES
    assert after.split_description == before.split_description
    assert after.fingerprint() == before.fingerprint()
    for one, other in zip(before.samples, after.samples, strict=True):
        assert one.location is None and other.location is not None
        assert torch.equal(before.load_pixels(one), after.load_pixels(other))


def test_every_split_has_its_own_shards_and_no_shard_is_larger_than_asked(tmp_path):
    index = make_shards(make_class_folders(tmp_path / "in", 100, ("train", "test")), tmp_path / "out")
    assert len(index.shards) > 4
    assert {(shard.name.split("-")[0], shard.split) for shard in index.shards} == {("train", "train"), ("test", "test")}
    for shard in index.shards:
        path = tmp_path / "out" / shard.name
        assert path.stat().st_size == shard.size <= 2**16
        assert all(member.name.startswith(f"{shard.split}/") for member in shard.members)
    assert index.images == 200


def test_another_library_reads_the_files_as_they_were(tmp_path):
    source = make_class_folders(tmp_path / "in")
    index = make_shards(source, tmp_path / "out")
    for shard in index.shards:
        with tarfile.open(tmp_path / "out" / shard.name) as tar:
            files = {info.name: tar.extractfile(info).read() for info in tar.getmembers()}  # type: ignore[union-attr]
            assert {info.mtime for info in tar.getmembers()} == {0}
        keys = list(dict.fromkeys(name.partition(".")[0] for name in files))
        assert len(files) == 2 * len(keys) == 2 * len(shard.members)
        for key, member in zip(keys, shard.members, strict=True):
            assert files[f"{key}.png"] == (source / member.name).read_bytes()
            assert CLASSES[int(files[f"{key}.cls"])] == member.name.split("/")[0]


def test_the_index_says_where_each_file_lies(tmp_path):
    source = make_class_folders(tmp_path / "in")
    make_shards(source, tmp_path / "out")
    index = parse_index((tmp_path / "out" / INDEX).read_bytes(), "index")
    for shard in index.shards:
        data = (tmp_path / "out" / shard.name).read_bytes()
        for member in shard.members:
            assert data[member.offset : member.offset + member.size] == (source / member.name).read_bytes()


def test_equal_images_size_and_seed_give_equal_bytes_and_another_seed_another_order(tmp_path):
    source = make_class_folders(tmp_path / "in")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_shards(source, tmp_path / name, seed=seed)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    names = [
        [m.name for s in parse_index((tmp_path / x / INDEX).read_bytes(), x).shards for m in s.members] for x in "ac"
    ]
    assert names[0] != names[1] and sorted(names[0]) == sorted(names[1])
    assert names[0] != sorted(names[0])


def test_processes_write_the_same_bytes(tmp_path, monkeypatch):
    source = make_class_folders(tmp_path / "in")
    make_shards(source, tmp_path / "a")
    monkeypatch.setattr(module, "_MIN_BYTES_FOR_WORKERS", 0)
    monkeypatch.setattr(module, "count_workers", lambda: 2)
    make_shards(source, tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize(
    ("column", "values", "kind", "contents"),
    [
        (
            "labels",
            ["indoors|cat", "", "cat"],
            "multilabel",
            [{"labels": ["cat", "indoors"]}, {"labels": []}, {"labels": ["cat"]}],
        ),
        ("score", ["3.5", "-1", "0"], "regression", [{"score": 3.5}, {"score": -1.0}, {"score": 0.0}]),
    ],
)
def test_labels_and_scores_are_kept(column, values, kind, contents, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(make_png(number))
    table = tmp_path / "data.csv"
    table.write_text(f"path,{column}\n" + "".join(f"{number}.png,{value}\n" for number, value in enumerate(values)))
    index = make_shards(table, tmp_path / "out")
    recipe = DataRecipe(val=0, test=0)
    before, after = load_data(table, recipe), load_data(tmp_path / "out", recipe)
    assert (index.target, after.target) == (kind, kind)
    assert (after.samples, after.classes, after.fingerprint()) == (before.samples, before.classes, before.fingerprint())
    with tarfile.open(tmp_path / "out" / "data-000000.tar") as tar:
        found = [json.load(tar.extractfile(info)) for info in tar.getmembers() if info.name.endswith(".json")]  # type: ignore[arg-type]
    assert sorted(found, key=str) == sorted(contents, key=str)


def test_shards_can_be_written_anew_from_shards(tmp_path):
    source = make_class_folders(tmp_path / "in")
    make_shards(source, tmp_path / "a")
    make_shards(tmp_path / "a", tmp_path / "b", size=2**20)
    make_shards(source, tmp_path / "c", size=2**20)
    assert content(tmp_path / "b") == content(tmp_path / "c")


def test_what_cannot_be_read_is_left_out_and_told(tmp_path):
    source = make_class_folders(tmp_path / "in")
    (source / "cat" / "empty.png").write_bytes(b"")
    (source / "cat" / "notes.txt").write_text("no image")
    make_shards(source, tmp_path / "out")
    images = load_data(tmp_path / "out", DataRecipe())
    assert {skipped.name: skipped.reason for skipped in images.skipped} == {
        "cat/empty.png": "the file is empty",
        "cat/notes.txt": "not an image (.txt)",
    }
    assert len(images.samples) == 60


def test_names_that_are_no_text_are_kept(tmp_path):
    source = make_class_folders(tmp_path / "in", 6)
    odd = os.fsencode(source / "cat") + b"/\xff..png"
    Path(os.fsdecode(odd)).write_bytes(make_png(99))
    make_shards(source, tmp_path / "out")
    names = [sample.name for sample in load_data(tmp_path / "out", DataRecipe(val=0, test=0)).samples]
    assert "cat/\udcff..png" in names


def test_a_file_that_changes_while_shards_are_written_leaves_nothing(tmp_path):
    source = make_class_folders(tmp_path / "in")
    listing, found = scan_source(source)
    (source / "cat" / "0003.png").write_bytes(make_png(500))
    with pytest.raises(DataError, match=r"'cat/0003.png' changed while the shards were being written"):
        module.write_shards(listing, found, tmp_path / "out", size=2**20, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_full_folder_is_not_written_into(tmp_path):
    source = make_class_folders(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputError, match="not empty: choose a new folder"):
        make_shards(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_shard_that_is_too_small_for_anything_is_refused(tmp_path):
    with pytest.raises(OutputError, match="at least 65,536 bytes, got 100"):
        make_shards(make_class_folders(tmp_path / "in"), tmp_path / "out", size=100)


def test_an_image_larger_than_a_shard_has_one_of_its_own(tmp_path):
    source = make_class_folders(tmp_path / "in", 6)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    (source / "cat" / "large.png").write_bytes(encode_image(noise, "PNG"))
    index = make_shards(source, tmp_path / "out")
    alone = [shard for shard in index.shards if shard.size > 2**16]
    assert [[member.name for member in shard.members] for shard in alone] == [["cat/large.png"]]
    assert io.BytesIO(make_png(0)).read(4) == b"\x89PNG"
