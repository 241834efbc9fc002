"""The index: nothing in it is believed unseen, and no change to it is silent."""

import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.target import TargetKind
from megavit.data.shards.index import (
    Damaged,
    Member,
    Shard,
    ShardIndex,
    _fingerprint,
    list_contents,
    parse_index,
)
from megavit.errors import DataError

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.just("\udcff"), max_size=8)
whole = st.integers(1, 1000)


@st.composite
def indices(draw: st.DrawFn) -> ShardIndex:
    kind: TargetKind = draw(st.sampled_from(get_args(TargetKind)))
    classes = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True))) if kind != "regression" else ()
    one = st.integers(0, max(0, len(classes) - 1))
    targets = {
        "classification": one,
        "multilabel": st.frozensets(one).map(lambda labels: tuple(sorted(labels))),
        "regression": st.floats(allow_nan=False, allow_infinity=False),
    }
    unique = iter(draw(st.lists(names, min_size=12, max_size=12, unique=True)))

    def member() -> Member:
        digest = draw(st.text("0123456789abcdef", min_size=16, max_size=16))
        return Member(
            next(unique), draw(st.none() | targets[kind]), draw(whole), draw(whole), digest, draw(whole), draw(whole), 3
        )

    shards = tuple(
        Shard(
            f"{place}.tar",
            4000,
            "a" * 64,
            draw(st.sampled_from(["train", "val", "test", None])),
            tuple(member() for _ in range(draw(st.integers(0, 3)))),
        )
        for place in range(draw(st.integers(0, 4)))
    )
    said = st.lists(st.tuples(names, names), max_size=2)
    damaged = tuple((f"0.tar{name and '/'}{name}", reason) for name, reason in draw(said))
    return ShardIndex(kind, classes, shards, tuple(draw(said)), damaged)


@given(indices())
def test_an_index_is_read_as_it_was_written(index):
    assert parse_index(index.to_json(), "here") == index


INDEX = ShardIndex(
    "classification",
    ("a", "b"),
    (Shard("x.tar", 5000, "a" * 64, "train", (Member("m", 1, 512, 10, "0" * 16, 2, 3, 1),)),),
)


@given(st.integers(0, len(INDEX.to_json()) * 8 - 1))
def test_no_flipped_bit_is_silent(bit):
    text = bytearray(INDEX.to_json().encode())
    text[bit // 8] ^= 1 << bit % 8
    try:
        found = parse_index(bytes(text), "here")
    except DataError:
        return
    except UnicodeDecodeError:
        pytest.fail("a message for the user was expected")
    assert found == INDEX  # such as a letter of \\u00e9 in the other case


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "expected format 1, got 2"),
        (("target",), "boxes", "expected a kind of target"),
        (("shards", 0, "name"), "../x.tar", "expected a shard's name"),
        (("shards", 0, "name"), "/etc/x.tar", "expected a shard's name"),
        (("shards", 0, "name"), "x", "expected a shard's name"),
        (("shards", 0, "bytes"), True, "expected a shard's size"),
        (("shards", 0, "split"), "all", "expected a split"),
        (("shards", 0, "offsets"), [4999], "expected a byte range within 5,000 bytes"),
        (("shards", 0, "offsets"), [-1], "expected a byte range"),
        (("shards", 0, "names"), ["a\0b"], "expected a valid file name"),
        (("shards", 0, "names"), ["\ud800"], "expected a valid file name"),
        (("shards", 0, "sizes"), [2**40], "expected a byte range"),
        (("shards", 0, "sizes"), [], "expected columns of one length"),
        (("shards", 0, "targets"), [2], "expected one of 2 classes"),
        (("shards", 0, "targets"), ["a"], "expected one of 2 classes"),
        (("shards", 0, "digests"), ["z" * 16], "expected a digest"),
        (("shards", 0, "heights"), [0], "expected a size"),
        (("shards", 0), None, "TypeError|NoneType"),
        (("classes",), [1], "expected names"),
        (("damaged",), [["../x/a.png", "gone"]], "expected a damaged entry that begins with a shard's name"),
        (("damaged",), [["a.png", "gone"]], "expected a damaged entry that begins with a shard's name"),
    ],
)
def test_what_cannot_be_is_refused_even_where_the_fingerprint_fits(path, value, message):
    table = json.loads(INDEX.to_json())
    inner = table
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    del table["fingerprint"]
    with pytest.raises(DataError, match=message):
        parse_index(json.dumps(table | {"fingerprint": _fingerprint(table)}), "here")


def test_a_score_beyond_all_numbers_is_refused():
    shard = replace(INDEX.shards[0], members=(replace(INDEX.shards[0].members[0], target=10**400),))
    with pytest.raises(DataError, match="too large"):
        parse_index(replace(INDEX, target="regression", classes=(), shards=(shard,)).to_json(), "here")


def test_by_shard_come_its_images_and_what_is_damaged():
    index = replace(INDEX, damaged=(("x.tar/n.png", "torn"), ("x.tar/m.cls", "of an image"), ("y.tar", "gone")))
    found = list_contents("here", index)
    assert [name for name, _ in found["x.tar"]] == ["m", "x.tar/n.png"]
    assert found["x.tar"][1][1] == Damaged("torn")
    assert found["y.tar"] == [("y.tar", Damaged("gone"))]


def test_two_images_of_one_name_are_refused():
    shard = INDEX.shards[0]
    twice = replace(INDEX, shards=(shard, replace(shard, name="y.tar")))
    with pytest.raises(DataError, match="a unique name for each image"):
        parse_index(twice.to_json(), "here")
