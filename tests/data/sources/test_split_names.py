"""The name of a split means the same wherever it stands."""

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.data.shards.scan import shard_split
from megavit.data.sources.folder import list_folder
from megavit.data.sources.table import list_table
from megavit.data.split.split_names import SPLIT_WORDS, SPLITS

NAMES = [(name, split) for split, words in SPLIT_WORDS.items() for word in words for name in (word, word.upper())]


@pytest.mark.parametrize(("name", "split"), NAMES)
def test_a_name_is_the_same_split_in_a_folder_a_table_and_a_shard(name, split, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / name / label).mkdir(parents=True)
        (tmp_path / "images" / name / label / "1.png").touch()
    folder = list_folder(tmp_path / "images", {"cat", "dog"})
    (tmp_path / "images.csv").write_text(f"path,label,split\n1.png,cat,{name}\n2.png,dog,{name}\n")
    table = list_table(tmp_path / "images.csv")
    assert {candidate.split for candidate in (*folder.candidates, *table.candidates)} == {split}
    assert shard_split(f"images-{name}-000000.tar") == split


def test_a_demo_has_the_splits_that_the_recipe_asks_for():
    assert set(load_data("demo:digits", DataRecipe()).split_sizes()) == set(SPLITS)
