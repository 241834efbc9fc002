"""Strokes are written once, each upon what was seen, whatever else writes to the log."""

import errno
import os
import threading
from pathlib import Path

import pytest

from megavit.data.sources.label_log import LABEL_LOG, format_header, parse_label_log
from megavit.errors import DataError, OutputError
from megavit.labeling.history import MAX_STROKES, find_undoable
from megavit.labeling.store import LabelStore, Mark, StaleError


def label(path: str, name: str, seen: str = "") -> Mark:
    return Mark(path, "labeled", (name,), seen, "dog", "0.7")


def states(folder: Path) -> dict[str, tuple[str, ...]]:
    store = LabelStore(folder)
    return {one.path: one.labels for one in store.decisions if store.last(one.path) is one}


def test_nothing_is_written_before_the_first_stroke(tmp_path: Path) -> None:
    LabelStore(tmp_path)
    assert not (tmp_path / LABEL_LOG).exists()


def test_a_stroke_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.add("1", [label("a.jpg", "cat"), label("b.jpg", "cat")], "ada")
    store.add("2", [label("a.jpg", "dog", seen="1")], "ada")
    assert states(tmp_path) == {"a.jpg": ("dog",), "b.jpg": ("cat",)}
    first = LabelStore(tmp_path).decisions[0]
    assert (first.by, first.suggested, first.probability, first.stroke) == ("ada", "dog", "0.7", "1")
    assert first.at.endswith("+00:00")


def test_a_stroke_that_is_sent_again_is_written_once(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.add("1", [label("a.jpg", "cat")], "ada")
    for again in (store, LabelStore(tmp_path)):
        again.add("1", [label("a.jpg", "cat")], "ada")
    assert len(LabelStore(tmp_path).decisions) == 1


def test_what_a_crash_has_cut_off_a_stroke_on_many_images_is_added_when_it_is_sent_again(tmp_path: Path) -> None:
    marks = [label(f"{index}.jpg", "cat") for index in range(100)]
    LabelStore(tmp_path).add("1", marks, "ada")
    path = tmp_path / LABEL_LOG
    path.write_bytes(path.read_bytes()[:4096])
    LabelStore(tmp_path).add("1", marks, "ada")
    decisions = LabelStore(tmp_path).decisions
    assert [one.path for one in decisions] == [mark.path for mark in marks]


def test_a_stroke_upon_an_old_decision_is_refused_as_a_whole(tmp_path: Path) -> None:
    one, other = LabelStore(tmp_path), LabelStore(tmp_path)
    one.add("1", [label("a.jpg", "cat")], "ada")
    with pytest.raises(StaleError, match=r"a\.jpg$"):
        other.add("2", [label("a.jpg", "dog"), label("b.jpg", "dog")], "bob")
    assert states(tmp_path) == {"a.jpg": ("cat",)}
    last = other.last("a.jpg")
    assert last is not None and last.stroke == "1"  # what it was refused for can be shown


def test_undo_is_another_line_that_restores_what_was_before(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.add("1", [label("a.jpg", "cat")], "ada")
    store.add("2", [label("a.jpg", "dog", seen="1"), label("b.jpg", "dog")], "ada")
    assert store.undo("3", "2", "ada") == ("a.jpg", "b.jpg")
    assert store.undo("3", "2", "ada") == ("a.jpg", "b.jpg")  # sent again
    assert states(tmp_path) == {"a.jpg": ("cat",), "b.jpg": ()}
    assert len(store.decisions) == 5
    with pytest.raises(StaleError):
        store.undo("4", "2", "ada")
    assert store.undo("5", "unknown", "ada") == ()


def test_strokes_on_one_image_are_undone_one_after_the_other(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    for number, name in enumerate(("cat", "dog", "bird")):
        last = store.last("a.jpg")
        store.add(str(number), [label("a.jpg", name, seen=last.stroke if last else "")], "ada")
    found = [states(tmp_path)["a.jpg"]]
    for undone in "210":
        assert list(find_undoable(store.decisions, "ada"))[-1] == undone
        store.undo(f"undo-{undone}", undone, "ada")
        found.append(states(tmp_path)["a.jpg"])
    assert found == [("bird",), ("dog",), ("cat",), ()]
    assert find_undoable(store.decisions, "ada") == {}


def test_the_last_strokes_of_a_user_can_be_undone(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.add("1", [label("a.jpg", "cat"), label("b.jpg", "cat")], "ada")
    store.add("2", [label("c.jpg", "dog")], "bob")
    store.add("3", [label("d.jpg", "dog")], "ada")
    assert {stroke: sorted(paths) for stroke, paths in find_undoable(store.decisions, "ada").items()} == {
        "1": ["a.jpg", "b.jpg"],
        "3": ["d.jpg"],
    }
    for number in range(MAX_STROKES):
        store.add(f"many-{number}", [label(f"{number}.jpg", "dog")], "ada")
    assert list(find_undoable(store.decisions, "ada")) == [f"many-{number}" for number in range(MAX_STROKES)]
    assert find_undoable(store.decisions, "") == {}


@pytest.mark.parametrize("left", [b'"b.jpg","ca', b'"b.jpg"', b"\xff"])
def test_what_a_crash_left_of_a_line_is_dropped_by_the_next_stroke(tmp_path: Path, left: bytes) -> None:
    LabelStore(tmp_path).add("1", [label("a.jpg", "cat")], "ada")
    with (tmp_path / LABEL_LOG).open("ab") as file:
        file.write(left)
    LabelStore(tmp_path).add("2", [label("c.jpg", "dog")], "ada")
    assert states(tmp_path) == {"a.jpg": ("cat",), "c.jpg": ("dog",)}
    assert left not in (tmp_path / LABEL_LOG).read_bytes().splitlines()[-1]


def test_a_last_line_without_its_break_is_kept(tmp_path: Path) -> None:
    LabelStore(tmp_path).add("1", [label("a.jpg", "cat")], "ada")
    path = tmp_path / LABEL_LOG
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    LabelStore(tmp_path).add("2", [label("b.jpg", "dog")], "ada")
    assert states(tmp_path) == {"a.jpg": ("cat",), "b.jpg": ("dog",)}


@pytest.mark.parametrize("size", [0, 9, len(format_header("classification")) - 1])
def test_a_crash_within_the_header_is_a_new_beginning(tmp_path: Path, size: int) -> None:
    (tmp_path / LABEL_LOG).write_bytes(format_header("classification")[:size])
    LabelStore(tmp_path).add("1", [label("a.jpg", "cat")], "ada")
    assert states(tmp_path) == {"a.jpg": ("cat",)}


def test_a_log_that_another_program_has_changed_is_read_anew(tmp_path: Path) -> None:
    store = LabelStore(tmp_path)
    store.add("1", [label("a.jpg", "cat")], "ada")
    path, generation = tmp_path / LABEL_LOG, store.generation
    path.write_bytes(path.read_bytes().replace(b'"cat"', b'"bird"'))
    store.add("2", [label("b.jpg", "dog")], "ada")
    assert store.generation > generation
    assert states(tmp_path) == {"a.jpg": ("bird",), "b.jpg": ("dog",)}
    path.unlink()
    store.refresh()
    assert store.decisions == []


def test_a_log_of_another_kind_is_refused(tmp_path: Path) -> None:
    LabelStore(tmp_path, "multilabel").add("1", [Mark("a.jpg", "labeled", ("cat", "dog"))], "ada")
    with pytest.raises(DataError, match="--multilabel"):
        LabelStore(tmp_path)


def test_a_log_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LabelStore(tmp_path)
    store.add("1", [label("a.jpg", "cat")], "ada")
    before, write = (tmp_path / LABEL_LOG).read_bytes(), os.write

    def fill_up(handle: int, data: bytes) -> int:
        if os.fstat(handle).st_size == len(before):
            return write(handle, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fill_up)
        with pytest.raises(OutputError, match="disk is full"):
            store.add("2", [label("b.jpg", "dog")], "ada")
    assert (tmp_path / LABEL_LOG).read_bytes() == before
    store.add("2", [label("b.jpg", "dog")], "ada")
    assert states(tmp_path) == {"a.jpg": ("cat",), "b.jpg": ("dog",)}


def test_threads_and_other_windows_do_not_overwrite_each_other(tmp_path: Path) -> None:
    shared = LabelStore(tmp_path)

    def work(store: LabelStore, name: str) -> None:
        for index in range(20):
            store.add(f"{name}-{index}", [label(f"{name}/{index}.jpg", "cat")], name)

    # Files that are opened apart are locked as those of processes are, of which test_kills has some.
    stores = {"a": LabelStore(tmp_path), "b": LabelStore(tmp_path), "c": shared, "d": shared}
    threads = [threading.Thread(target=work, args=(store, name)) for name, store in stores.items()]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    log = parse_label_log((tmp_path / LABEL_LOG).read_bytes(), "log")
    assert sorted(one.stroke for one in log.decisions) == sorted(f"{name}-{i}" for name in "abcd" for i in range(20))
    shared.refresh()
    assert len(shared.decisions) == 80
