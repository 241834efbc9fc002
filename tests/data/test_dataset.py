"""Names, labels and splits: what is counted, hashed, written and read back."""

import json
import os
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.data.byte_range import content_digest
from megavit.data.dataset import SPLITS, LabeledImages, Sample, SampleRow, Skipped, read_samples, write_samples
from megavit.errors import DataError, OutputError
from tests.helpers.difficult_images import encode_image, make_image

CLASSES = ("cat", "dog")
SAMPLES = (
    Sample("cat/1.png", 0, "train", 8, 8, 3, content_digest(b"1")),
    Sample("cat/2.png", 0, "val", 8, 8, 3, content_digest(b"2")),
    Sample("dog/1.png", 1, "train", 8, 8, 1, content_digest(b"3")),
)
IMAGES = LabeledImages("data", Path("data"), CLASSES, SAMPLES, (), "as defined by the data")

# Any file name there can be: bytes that may be no text, but no zero byte.
file_names = st.binary(min_size=1).filter(lambda name: 0 not in name).map(os.fsdecode)


def test_a_split_has_its_samples_in_order():
    assert IMAGES.in_split("train") == (SAMPLES[0], SAMPLES[2])
    assert IMAGES.in_split("test") == ()


def test_counts_name_every_split_and_class():
    assert IMAGES.class_counts() == {
        "train": {"cat": 1, "dog": 1},
        "val": {"cat": 1, "dog": 0},
        "test": {"cat": 0, "dog": 0},
    }


def test_skipped_are_counted_by_reason_the_most_frequent_first():
    skipped = (Skipped("a", "hidden"), Skipped("b", "the file is empty"), Skipped("c", "the file is empty"))
    counted = replace(IMAGES, skipped=skipped).skipped_by_reason()
    assert list(counted.items()) == [("the file is empty", 2), ("hidden", 1)]


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"target": 1}, {"split": "test"}, {"digest": content_digest(b"other")}]
)
def test_the_fingerprint_changes_with_any_sample(change):
    changed = replace(IMAGES, samples=(replace(SAMPLES[0], **change), *SAMPLES[1:]))
    assert changed.fingerprint() != IMAGES.fingerprint()


def test_the_fingerprint_changes_with_the_names_of_classes():
    assert replace(IMAGES, classes=("cat", "wolf")).fingerprint() != IMAGES.fingerprint()


def test_the_fingerprint_does_not_depend_on_order_or_place():
    moved = replace(IMAGES, samples=SAMPLES[::-1], source="elsewhere", root=Path("elsewhere"))
    assert moved.fingerprint() == IMAGES.fingerprint()


@given(
    st.sampled_from([(0, 1), ((), (0, 1)), (0.25, -1e-9, 0.0, -0.0)]).flatmap(
        lambda targets: st.lists(st.tuples(file_names, st.sampled_from(targets)), max_size=5)
    )
)
def test_the_fingerprint_is_the_hash_of_the_rows_as_json(rows):
    kinds = [Sample(name, target, "val", 8, 8, 3, content_digest(b"1")) for name, target in rows]
    named = {"0": "a\n猫", "1": 'd"g', "()": [], "(0, 1)": ["a\n猫", 'd"g']}
    lines = [
        json.dumps([one.name, named.get(str(one.target), one.target), "val", one.digest])
        for one in sorted(kinds, key=lambda one: one.name)
    ]
    images = LabeledImages("photos", None, ("a\n猫", 'd"g'), tuple(kinds), (), "")
    assert images.fingerprint() == blake2b("".join(lines).encode(), digest_size=16).hexdigest()


def test_what_takes_long_is_worked_out_once():
    asked: list[LabeledImages] = []
    images = replace(IMAGES)
    note = asked.append
    for _ in range(3):
        images.compute_once(note)
    assert asked == [images]
    assert replace(images).fingerprint() == images.fingerprint() == IMAGES.fingerprint()


@given(file_names)
def test_every_file_name_has_a_fingerprint(name):
    assert len(replace(IMAGES, samples=(replace(SAMPLES[0], name=name),)).fingerprint()) == 32


def test_pixels_come_from_the_file_or_from_memory(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(encode_image(make_image(), "PNG"))
    on_disk = replace(IMAGES, root=tmp_path)
    scanned = replace(SAMPLES[0], digest=content_digest(encode_image(make_image(), "PNG")))
    assert torch.equal(on_disk.load_pixels(scanned), torch.from_numpy(make_image()).permute(2, 0, 1))
    with pytest.raises(DataError, match=r"'cat/2\.png' of 'data' can no longer be read: no such file"):
        on_disk.load_pixels(SAMPLES[1])
    held = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert replace(IMAGES, root=None, memory={"cat/1.png": held}).load_pixels(SAMPLES[0]) is held


@given(st.lists(st.tuples(file_names, st.integers(0, 1), st.sampled_from(SPLITS))), st.tuples(file_names, file_names))
def test_any_names_survive_being_written_and_read(tmp_path_factory, rows, classes):
    path = tmp_path_factory.getbasetemp() / "samples.csv"
    samples = [Sample(name, label, split, 1, 1, 1, content_digest(b"")) for name, label, split in rows]
    write_samples(path, samples, classes)
    assert read_samples(path) == tuple(
        SampleRow(name, classes[label], split, content_digest(b"")) for name, label, split in rows
    )


def test_the_table_is_plain_csv(tmp_path):
    write_samples(tmp_path / "samples.csv", SAMPLES[:1], CLASSES)
    lines = (tmp_path / "samples.csv").read_text().splitlines()
    assert lines == ['"name","label","split","digest"', f'"cat/1.png","cat","train","{content_digest(b"1")}"']


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        write_samples(tmp_path / "no/where.csv", SAMPLES, CLASSES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with the line name,label,split,digest"),
        ("name,label\n", "must begin"),
        ("name,label,split,digest\na,b,train\n", "sample 1"),
        ("name,label,split,digest\na,b,train,0\na,b,later,0\n", "sample 2.*'later'"),
        ('name,label,split,digest\n"a', "damaged"),
    ],
)
def test_other_tables_are_refused(text, said, tmp_path):
    (tmp_path / "samples.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_samples(tmp_path / "samples.csv")


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_samples(tmp_path / "samples.csv")


LABELS = (("cat/1.png", (0, 1)), ("cat/2.png", ()), ("dog/1.png", (1,)))


def labeled(targets, target, classes=("cat", "dog")):
    samples = tuple(Sample(name, value, "train", 8, 8, 3, content_digest(b"1")) for name, value in targets)
    return LabeledImages("photos", None, classes, samples, (), "", target=target)


def test_labels_and_scores_are_counted_hashed_and_written(tmp_path):
    labels = labeled(LABELS, "multilabel")
    assert labels.class_counts()["train"] == {"cat": 1, "dog": 2} and labels.split_sizes()["train"] == 3
    write_samples(tmp_path / "labels.csv", labels.samples, labels.classes, "multilabel")
    assert [row.target for row in read_samples(tmp_path / "labels.csv")] == ["cat|dog", "", "dog"]

    scores = labeled([("1", 0.1), ("2", -2.0), ("3", 1e-9)], "regression", ())
    assert scores.class_counts()["train"] == {} and scores.split_sizes() == {"train": 3, "val": 0, "test": 0}
    write_samples(tmp_path / "scores.csv", scores.samples, (), "regression")
    assert [float(row.target) for row in read_samples(tmp_path / "scores.csv")] == [0.1, -2.0, 1e-9]
    assert (tmp_path / "scores.csv").read_text().startswith('"name","score","split","digest"')


def test_the_fingerprint_changes_with_labels_and_scores():
    prints = {
        labeled(LABELS, "multilabel").fingerprint(),
        labeled([("cat/1.png", (0,)), *LABELS[1:]], "multilabel").fingerprint(),
        labeled([("cat/1.png", 1.0)], "regression").fingerprint(),
        labeled([("cat/1.png", 1.5)], "regression").fingerprint(),
    }
    assert len(prints) == 4
