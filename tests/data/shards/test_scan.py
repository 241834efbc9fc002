"""Shards of others: what WebDataset's conventions say, whoever wrote the tar."""

import json
import tarfile

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.file_names import HIDDEN
from megavit.data.load import load_data
from megavit.data.shards.index import INDEX
from megavit.data.shards.open import is_shards, open_shards
from megavit.data.shards.scan import shard_split
from megavit.errors import DataError
from tests.helpers.shards import make_class_folders, make_png, make_shards, make_tar

ALL = DataRecipe(val=0, test=0)


def write(folder, **shards):
    folder.mkdir()
    for name, files in shards.items():
        (folder / f"{name}.tar").write_bytes(files if isinstance(files, bytes) else make_tar(files))
    return folder


def samples(first, count, **beside):
    """`count` samples, each a picture and the files that `beside` makes of its number."""
    files = {}
    for number in range(first, first + count):
        files[f"{number:04}.png"] = make_png(number)
        files |= {f"{number:04}.{kind}": make(number) for kind, make in beside.items()}
    return files


def by_class(first, count):
    return samples(first, count, cls=lambda number: str(number % 12).encode())


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_without_an_index_are_read_once_and_then_have_one(kind, tmp_path):
    folder = write(tmp_path / "s", a=make_tar(by_class(0, 24), kind), b=make_tar(by_class(24, 24), kind))
    images = load_data(folder, ALL)
    assert len(images.samples) == 48
    assert images.classes == tuple(str(number) for number in range(12))  # as numbers, so that 10 comes after 9
    assert {
        (sample.name, sample.label) for sample in images.samples if "/0011." in sample.name or "/0047." in sample.name
    } == {
        ("a.tar/0011.png", 11),
        ("b.tar/0047.png", 11),
    }
    text = (folder / INDEX).read_bytes()
    assert load_data(folder, ALL) == images
    assert (folder / INDEX).read_bytes() == text


def test_a_folder_that_is_not_ours_to_write_in_is_read_all_the_same(tmp_path, monkeypatch):
    folder = write(tmp_path / "s", a=by_class(0, 24))

    def refuse(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr("megavit.data.shards.open.write_file", refuse)
    assert open_shards(str(folder))[1].images == 24
    assert not (folder / INDEX).exists()


def test_names_longer_than_a_header_are_read(tmp_path):
    long = "x" * 90 + "/" + "é" * 120
    files = {
        f"{long}{number}.{kind}": content
        for number in range(4)
        for kind, content in (("png", make_png(number)), ("cls", b"%d" % (number % 2)))
    }
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        folder = write(tmp_path / str(kind), a=make_tar(files, kind))
        names = [member.name for member in open_shards(str(folder))[1].shards[0].members]
        assert names == [f"a.tar/{long}{number}.png" for number in range(4)]


def test_labels_and_scores_come_from_json(tmp_path):
    labels = samples(0, 6, json=lambda n: json.dumps({"labels": ["b", "a"] if n % 2 else []}).encode())
    scores = samples(0, 6, json=lambda n: json.dumps({"score": n / 2, "caption": "of no account"}).encode())
    named = samples(0, 6, json=lambda n: json.dumps({"label": "cat" if n % 2 else "dog"}).encode())
    found = [
        load_data(write(tmp_path / name, a=files), ALL) for name, files in (("l", labels), ("s", scores), ("n", named))
    ]
    assert [images.target for images in found] == ["multilabel", "regression", "classification"]
    assert [sample.target for sample in found[0].samples] == [(), (0, 1)] * 3
    assert [sample.target for sample in found[1].samples] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert (found[2].classes, [sample.target for sample in found[2].samples]) == (("cat", "dog"), [1, 0] * 3)


def test_images_of_which_nothing_is_said_are_left_out_of_learning_and_kept_for_the_rest(tmp_path):
    folder = write(tmp_path / "s", a=by_class(0, 24), b=samples(24, 3))
    images = load_data(folder, ALL)
    assert len(images.samples) == 24
    assert images.skipped_by_reason() == {"it has no target in a .cls or .json": 3}
    assert open_shards(str(folder))[1].images == 27
    with pytest.raises(DataError, match=r"no image in the shards of .* has a target"):
        load_data(write(tmp_path / "t", a=samples(0, 3)), ALL)


def test_different_kinds_of_targets_are_refused(tmp_path):
    folder = write(tmp_path / "s", a=by_class(0, 3), b=samples(3, 3, json=lambda n: b'{"score": 1}'))
    with pytest.raises(DataError, match="targets of several kinds, classification and regression"):
        load_data(folder, ALL)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-0001.tar", "train"),
        ("imagenet1k-validation-07.tar", "val"),
        ("VAL_3.tar", "val"),
        ("test.tar", "test"),
        ("0001.tar", None),
        ("training_data.tar", "train"),
        ("contest-1.tar", None),
    ],
)
def test_a_shard_is_of_the_split_that_its_name_says(name, split):
    assert shard_split(name) == split


@pytest.mark.parametrize("left", [100, 512, 700, 1024 + 60, 4096, 4096 + 512])
def test_a_shard_that_is_cut_short_gives_what_is_whole_in_it(left, tmp_path):
    whole = make_tar(by_class(0, 24))
    folder = write(tmp_path / "s", a=whole[:left], b=by_class(24, 24))
    _, index = open_shards(str(folder))
    assert 24 <= index.images < 28
    assert [reason[:9] for name, reason in index.damaged if name == "a.tar"] == ["truncated"]


def test_a_header_that_is_damaged_ends_its_shard(tmp_path):
    whole = bytearray(make_tar(by_class(0, 24), tarfile.USTAR_FORMAT))
    whole[4 * 1024 + 3] ^= 4  # a letter of the name of the third picture
    folder = write(tmp_path / "s", a=bytes(whole), b=by_class(24, 24))
    _, index = open_shards(str(folder))
    assert index.images == 26
    assert dict(index.damaged)["a.tar"] == "damaged: the header of a file cannot be read"


def test_pictures_and_labels_that_are_damaged_are_told_one_by_one(tmp_path):
    files = by_class(0, 24)
    files["0003.png"] = files["0003.png"][:-20]
    files["0005.cls"] = b"\xff\xfe"
    files["0007.jpg"] = make_png(500)
    _, index = open_shards(str(write(tmp_path / "s", a=files)))
    assert dict(index.damaged) == {
        "a.tar/0003.png": "damaged or truncated",
        "a.tar/0005.cls": "not a valid .cls",
        "a.tar/0007.jpg": "a second image for the same sample",
    }
    assert index.images == 23


def test_links_devices_and_paths_upwards_are_never_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(make_png(7))
    path = tmp_path / "s" / "a.tar"
    path.parent.mkdir()
    links = b""
    for name, kind in (("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE), ("3.png", tarfile.CHRTYPE)):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "../secret.png"
        links += info.tobuf()
    paths = {"../../4.png": make_png(4), "../../4.cls": b"0", "/5.png": make_png(5), "/5.cls": b"1"}
    path.write_bytes(links + make_tar(paths))
    before = sorted(tmp_path.rglob("*"))
    _, index = open_shards(str(path))
    assert [member.name for member in index.shards[0].members] == ["a.tar/../../4.png", "a.tar//5.png"]
    assert sorted(tmp_path.rglob("*")) == before

    assert dict(index.damaged) == {
        "a.tar/1.png": "a link, which is not followed: put the file itself into the tar",
        "a.tar/2.png": "a link, which is not followed: put the file itself into the tar",
        "a.tar/3.png": "not a regular file",
    }


def test_zeros_in_place_of_a_header_are_no_end(tmp_path):
    path = write(tmp_path / "s", a=make_tar(by_class(0, 24), tarfile.USTAR_FORMAT)) / "a.tar"
    data = bytearray(path.read_bytes())
    data[8 * 1024 : 9 * 1024] = bytes(1024)  # header and content of the fifth picture
    path.write_bytes(data)
    _, index = open_shards(str(path))
    assert index.images == 4
    assert index.damaged == (("a.tar", "damaged: it has content after its end marker"),)
    data[8 * 1024 : 8 * 1024 + 512] = b""  # one such block alone
    data[8 * 1024 : 8 * 1024 + 512] = bytes(512)
    data[8 * 1024 + 512 : 9 * 1024] = b"x" * 512
    path.write_bytes(data)
    assert open_shards(str(path))[1].damaged[0][1] == "damaged: the header of a file cannot be read"


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE])
def test_what_is_no_plain_file_is_told(kind, tmp_path):
    whole = make_tar(by_class(0, 12))
    info = tarfile.TarInfo("link.png")
    info.type, info.linkname = kind, "0001.png"
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + whole)
    _, index = open_shards(str(tmp_path / "s"))
    assert index.images == 12
    ((name, reason),) = index.damaged
    assert name == "a.tar/link.png" and ("link" in reason or reason == "not a regular file")


def test_samples_whose_image_is_of_no_kind_that_is_known_are_told(tmp_path):
    files = {
        **by_class(0, 12),
        "a.psd": b"x",
        "a.cls": b"0",
        "b.v2.png": make_png(1),
        "b.cls": b"1",
        "0003.mask.png": make_png(2),  # of a sample with an image
        "README.md": b"of the set",
        "._0001.png": b"of another system",
    }
    _, index = open_shards(str(write(tmp_path / "s", a=files)))
    assert index.images == 12
    assert dict(index.damaged) == {
        "a.tar/a": "a sample without an image, with only .cls, .psd",
        "a.tar/b": "a sample with .v2.png, but images must be named KEY.png, with no dot in the key",
    }
    assert dict(index.skipped) == {
        "a.tar/README": "a sample without an image, with only .md",
        "a.tar/._0001.png": HIDDEN,
    }


def test_a_cls_goes_before_a_json_and_two_that_differ_say_nothing(tmp_path):
    files = by_class(0, 12)
    for number in range(12):
        files[f"{number:04}.json"] = b'{"label": "other"}'
    whole = make_tar({**files, "a.png": make_png(50), "a.cls": b"3", "b.png": make_png(51), "b.cls": b"3"})
    end = whole.index(bytes(2 * tarfile.BLOCKSIZE), len(whole) - tarfile.RECORDSIZE)
    folder = write(tmp_path / "s", a=whole[: end - end % 512] + make_tar({"a.cls": b"3", "b.cls": b"4"}))
    _, index = open_shards(str(folder))
    targets = {member.name: member.target for member in index.shards[0].members}
    assert "other" not in index.classes
    assert targets["a.tar/a.png"] == 3 and targets["a.tar/b.png"] is None
    assert index.damaged == (("a.tar/b.cls", "a second .cls for the same sample, with another target"),)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"score": ' + b"9" * 400 + b"}", b'{"label": ', b"\xff"])
def test_a_json_that_cannot_be_read_is_told(text, tmp_path):
    files = {**by_class(0, 12), "a.png": make_png(50), "a.json": text}
    _, index = open_shards(str(write(tmp_path / "s", a=files)))
    assert index.damaged == (("a.tar/a.json", "not a valid .json"),)
    assert index.images == 13


def test_damage_in_shards_of_others_is_fatal_where_it_is_so_chosen(tmp_path):
    files = by_class(0, 24)
    files["0003.png"] = files["0003.png"][:-20]
    folder = write(tmp_path / "s", a=files)
    assert len(load_data(folder, ALL).samples) == 23
    for _ in range(2):  # also when it is known from the index
        with pytest.raises(DataError, match=r"'a.tar/0003.png': damaged or truncated; restore them, or continue"):
            load_data(folder, DataRecipe(val=0, test=0, on_corrupt="fail"))


def test_an_index_is_not_written_while_a_shard_is_damaged_as_a_whole(tmp_path):
    whole = make_tar(by_class(0, 24))
    folder = write(tmp_path / "s", a=whole[:5000], b=by_class(24, 24))
    assert open_shards(str(folder))[1].images < 48
    assert not (folder / INDEX).exists()
    (folder / "a.tar").write_bytes(whole)
    assert open_shards(str(folder))[1].images == 48
    assert (folder / INDEX).exists()


def test_a_suffix_in_capitals_is_one_too(tmp_path):
    folder = write(tmp_path / "s", a=by_class(0, 12))
    (folder / "a.tar").rename(folder / "A.TAR")
    assert open_shards(str(folder)) == open_shards(str(folder))
    assert open_shards(str(folder))[1].shards[0].name == "A.TAR"


def test_a_tar_that_an_index_lies_beside_is_what_that_says(tmp_path):
    index = make_shards(make_class_folders(tmp_path / "in", 90), tmp_path / "out")
    _, found = open_shards(f"{tmp_path}/out/data-000001.tar")
    assert (found.classes, found.shards) == (index.classes, index.shards[1:2])
    _, found = open_shards(f"{tmp_path}/out/data-{{000000..000001}}.tar")
    assert found.shards == index.shards[:2]
    assert found.fingerprint() != index.fingerprint()
    (tmp_path / "out" / "more.tar").write_bytes(make_tar(by_class(0, 12)))
    assert open_shards(f"{tmp_path}/out/more.tar")[1].classes == tuple(str(number) for number in range(12))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.tar.gz", "y.tgz"], "are compressed.*decompress them"),
        (["train/0.tar", "val/0.tar"], "has its shards in subfolders, such as '.*train/0.tar': pass one of these"),
    ],
)
def test_what_is_nearly_shards_is_told_what_to_do(names, message, tmp_path):
    for name in names:
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_bytes(make_tar(by_class(0, 12)))
    with pytest.raises(DataError, match=message):
        load_data(tmp_path / "s", ALL)
    if "gz" in names[0]:
        with pytest.raises(DataError, match=r"is compressed.*decompress it first"):
            load_data(tmp_path / "s" / names[0], ALL)


def test_one_tar_and_several_can_be_named(tmp_path):
    folder = write(tmp_path / "s", **{f"x-{number:02}": by_class(12 * number, 12) for number in range(4)})
    assert open_shards(f"{folder}/x-01.tar")[1].images == 12
    _, index = open_shards(f"{folder}/x-{{01..03}}.tar")
    assert [shard.name for shard in index.shards] == ["x-01.tar", "x-02.tar", "x-03.tar"]
    _, index = open_shards(f"{folder}/x-{{03..05}}.tar")
    assert dict(index.damaged) == {"x-04.tar": "missing", "x-05.tar": "missing"}
    with pytest.raises(DataError, match="must be an ascending range"):
        open_shards(f"{folder}/x-{{03..01}}.tar")
    with pytest.raises(DataError, match=r"no images in the 1 shards of .*x-09.tar: missing"):
        open_shards(f"{folder}/x-09.tar")


def test_photos_beside_a_tar_stay_photos(tmp_path):
    folder = write(tmp_path / "s", a=by_class(0, 12))
    for name in ("README.md", "LICENSE", "SHA256SUMS"):
        (folder / name).write_text("shards")
    assert is_shards(str(folder))
    (folder / "photo.png").write_bytes(make_png(0))
    assert not is_shards(str(folder))
