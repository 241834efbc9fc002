"""A split's name means the same in a folder, a table and a shard."""

from pathlib import Path

import pytest

from megavit.data.shards.scan import shard_split
from megavit.data.sources.folder import list_folder
from megavit.data.sources.table import list_table
from megavit.data.split.split_names import SPLIT_WORDS, find_split_folders, parse_split
from megavit.errors import DataError

WORDS = [(split, word) for split, words in SPLIT_WORDS.items() for word in words]


@pytest.mark.parametrize(("split", "word"), WORDS)
@pytest.mark.parametrize("form", ["{}", "{}_set", "{}Set", "{}-images 2017"])
def test_one_name_is_one_split_in_every_source(split, word, form, tmp_path):
    name = form.format(word.title())
    for folder in ("training_data", name):
        (tmp_path / "data" / folder / "cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / folder / "cat" / "1.png").touch()
    table = tmp_path / "data.csv"
    table.write_text(f"path,label,split\n2.png,cat,{name}\n")
    in_folder = {one.split for one in list_folder(tmp_path / "data").candidates if one.name.startswith(name)}
    assert in_folder == {split}
    assert [one.split for one in list_table(table).candidates] == [split]
    assert shard_split(f"photos-{name}-000012.tar") == parse_split(name) == split


@pytest.mark.parametrize("name", ["trains", "contest", "vali", "device", "latest", "cat", "trainA", "train_cat", ""])
def test_other_words_are_no_split(name):
    assert parse_split(name) is None


def test_a_shard_that_tells_two_splits_is_refused():
    assert shard_split("photos-000000.tar") is None
    with pytest.raises(DataError, match="contains train and val: rename it"):
        shard_split("train-val-000000.tar")


def test_the_name_of_the_set_may_stand_beside_that_of_the_split():
    assert find_split_folders(["seg_train", "seg_test"]) == {"seg_train": "train", "seg_test": "test"}
    assert find_split_folders(["train_station", "crash_test"]) == {}
    assert find_split_folders(["seg_train", "seg_pred"]) == {}


def test_held_out_is_one_word_or_two(tmp_path: Path):
    assert {parse_split(name) for name in ("holdout", "hold-out", "Held_Out", "HELD OUT set")} == {"test"}
