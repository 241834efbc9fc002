"""Parts of answers: whole or not there, of one making, joined in order."""

import json
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.errors import OutputError
from megavit.predict.sharded_output import RECORD, ShardedOutput, concatenate_npz, is_merged

SHARDS = ("a.tar", "b.tar", "c.tar", "d.tar", "e.tar")
MADE_OF = {"model": "m", "top": 5, "coverage": None}


def fill(parts: ShardedOutput, rank: int = 0, world: int = 1) -> list[str]:
    done = list(parts.missing(rank, world))
    for shard in done:
        with parts.write(shard) as path:
            path.write_text(f"path,label\n{shard}/0,{rank}\n{shard}/1,{rank}\n")
    return done


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_each_shard_is_one_processs(world, tmp_path):
    parts = ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)
    found = [list(parts.missing(rank, world)) for rank in range(world)]
    assert sorted(chain.from_iterable(found)) == list(SHARDS)


def test_what_is_there_is_not_made_again_whatever_the_number_of_processes(tmp_path):
    parts = ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)
    assert fill(parts, 1, 2) == ["b.tar", "d.tar"]
    assert fill(ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF), 0, 3) == ["a.tar"]
    assert fill(ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)) == ["c.tar", "e.tar"]


def test_a_part_that_was_not_finished_is_not_there(tmp_path):
    parts = ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)
    with pytest.raises(KeyboardInterrupt):
        with parts.write("a.tar") as path:
            path.write_text("half")
            raise KeyboardInterrupt
    assert [path.name for path in parts.folder.iterdir()] == [RECORD]
    # As a process leaves it that is killed.
    (parts.folder / ".a-12345678.csv").write_text("half")
    parts.remove_leftovers()
    assert (parts.folder / ".a-12345678.csv").exists()  # it may be another's that is at work
    fill(parts)
    parts.remove_leftovers()
    assert sorted(path.name for path in parts.folder.iterdir()) == [*(f"{x}.csv" for x in "abcde"), RECORD]


def test_two_processes_may_write_the_same_part(tmp_path):
    """One of them has lost its agent, and the command was given again."""
    for output in ("out", "out.csv"):
        parts = ShardedOutput(tmp_path / output, ".csv", SHARDS, MADE_OF)
        with parts.write("a.tar") as late:
            late.write_text("path,label\na.tar/0,0\na.tar/1,0\n")
            fill(parts)
            parts.merge() if parts.is_file else parts.remove_leftovers()
            assert not late.exists()
        if parts.is_file:
            assert (tmp_path / output).read_text().count("a.tar") == 2
        else:
            assert parts.path("a.tar").read_text().count("a.tar") == 2
    with pytest.raises(OutputError, match="could not be written"):
        with ShardedOutput(tmp_path / "other", ".csv", SHARDS, MADE_OF).write("a.tar"):
            pass  # that nothing was written is another matter


def test_what_another_process_is_writing_stays(tmp_path):
    """Shards may be called such that the name of one begins with the other's."""
    parts = ShardedOutput(tmp_path / "out", ".csv", ("a.tar", "a-b.tar", "a*.tar"), MADE_OF)
    with parts.write("a-b.tar") as other, parts.write("a*.tar") as third:
        for path in (other, third):
            path.write_text("mine")
        with parts.write("a.tar") as path:
            path.write_text("a")
        assert other.read_text() == third.read_text() == "mine"
    assert list(parts.missing(0, 1)) == []


def test_how_many_could_not_be_read_is_known_whoever_wrote_the_part(tmp_path):
    parts = ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)
    with parts.write("a.tar") as path:
        path.write_text("x")
        parts.record_unreadable("a.tar", 3)
    again = ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)
    assert again.count_unreadable(SHARDS) == again.count_unreadable(("a.tar",)) == 3
    assert again.count_unreadable(("b.tar",)) == 0


def test_parts_that_became_the_output_are_known_and_another_file_is_not_taken_for_it(tmp_path, monkeypatch):
    parts = ShardedOutput(tmp_path / "out.csv", ".csv", SHARDS, MADE_OF)
    fill(parts)
    monkeypatch.setattr(parts, "remove", lambda: None)  # as if killed before
    parts.merge()
    assert is_merged(tmp_path / "out.csv")
    whole = (tmp_path / "out.csv").read_text()
    (tmp_path / "out.csv").rename(tmp_path / "kept.csv")
    assert not is_merged(tmp_path / "out.csv")
    (tmp_path / "out.csv").write_text(whole)
    assert not is_merged(tmp_path / "out.csv")


def test_who_waits_ends_where_the_others_have(tmp_path):
    parts = ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF)
    assert not parts.wait(lambda: True)
    fill(parts)
    assert parts.wait(lambda: True)


def test_tables_and_lines_are_joined_in_the_order_of_the_shards(tmp_path):
    for suffix, header in ((".csv", "path,label\n"), (".jsonl", "")):
        parts = ShardedOutput(tmp_path / f"out{suffix}", suffix, SHARDS, MADE_OF)
        for shard in reversed(SHARDS):
            with parts.write(shard) as path:
                path.write_text(f"{header}{shard}/0,x\n{shard}/1,y\n")
        parts.wait()
        parts.merge()
        rows = "".join(f"{shard}/{n}\n" for shard in SHARDS for n in ("0,x", "1,y"))
        assert (tmp_path / f"out{suffix}").read_text() == header + rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.jsonl"]


def test_arrays_are_joined(tmp_path):
    parts = ShardedOutput(tmp_path / "out.npz", ".npz", SHARDS[:2], MADE_OF)
    for number, shard in enumerate(SHARDS[:2]):
        with parts.write(shard) as path:
            np.savez(path, path=np.array([f"{shard}{'x' * number}"]), embedding=np.full((1, 3), number, np.float32))
    parts.merge()
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["path"].tolist() == ["a.tar", "b.tarx"]
        assert arrays["embedding"].tolist() == [[0, 0, 0], [1, 1, 1]]
        assert arrays["embedding"].dtype == np.float32


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=4))
def test_joined_arrays_are_those_of_the_parts_one_after_the_other(shapes):
    with TemporaryDirectory() as folder:
        parts = [Path(folder) / f"{number}.npz" for number in range(len(shapes))]
        found: dict[str, list[np.ndarray]] = {"path": [], "embedding": []}
        for part, (rows, length) in zip(parts, shapes, strict=True):
            names = np.array(["é" * length] * rows, dtype=np.str_)
            numbers = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
            np.savez(part, path=names, embedding=numbers)
            found["path"].append(names)
            found["embedding"].append(numbers)
        concatenate_npz(parts, Path(folder) / "whole.npz")
        with np.load(Path(folder) / "whole.npz", allow_pickle=False) as whole:
            for name, columns in found.items():
                expected = np.concatenate(columns)
                assert whole[name].dtype == expected.dtype and np.array_equal(whole[name], expected)


def test_answers_of_another_making_are_not_mixed_in(tmp_path):
    fill(ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF), 0, 2)
    with pytest.raises(OutputError, match="output of another bundle, other settings or other shards"):
        ShardedOutput(tmp_path / "out", ".csv", SHARDS, MADE_OF | {"top": 3})
    assert json.loads((tmp_path / "out" / RECORD).read_text()) == MADE_OF


def test_what_is_in_the_way_stays(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").touch()
    with pytest.raises(OutputError, match="not empty"):
        ShardedOutput(tmp_path / "full", ".csv", SHARDS, MADE_OF)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        ShardedOutput(tmp_path / "file", ".csv", SHARDS, MADE_OF)
    parts = ShardedOutput(tmp_path / "out.csv", ".csv", SHARDS, MADE_OF)
    fill(parts)
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(OutputError, match="already exists: move it"):
        parts.merge()
    assert (tmp_path / "out.csv").read_text() == "precious"
