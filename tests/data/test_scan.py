"""The scan finds exactly what can be read, in this process and in others."""

from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data import scan as module
from megavit.data.byte_range import content_digest
from megavit.data.load import load_data
from megavit.data.scan import Candidate, ImageInfo, Listing, scan_images
from tests.helpers.difficult_images import READ, encode_image, make_difficult_images, make_image


@pytest.mark.parametrize("many", [500, 1], ids=["here", "in processes"])
def test_bad_and_unusual_files_are_read_or_skipped_for_the_right_reason(many, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MIN_IMAGES_FOR_WORKERS", many)
    folder = tmp_path / "data"
    folder.mkdir()
    expected = make_difficult_images(folder)
    images = load_data(folder, DataRecipe())
    found = {sample.name: READ for sample in images.samples}
    found |= {skipped.name: skipped.reason for skipped in images.skipped}
    assert found == expected
    assert len(images.samples) + len(images.skipped) == len(expected)


def listing(root: Path, names: list[str]) -> Listing:
    return Listing(root, ("a",), tuple(Candidate(name, "a", None) for name in names), ())


def test_facts_are_of_the_upright_picture_and_the_bytes_of_the_file(tmp_path):
    data = encode_image(make_image(24, 16), "PNG")
    (tmp_path / "1.png").write_bytes(data)
    assert scan_images(listing(tmp_path, ["1.png", "none.png"])) == [
        ImageInfo(24, 16, 3, content_digest(data)),
        "no such file",
    ]


def test_progress_is_told_up_to_the_end(tmp_path):
    calls: list[tuple[int, int]] = []
    scan_images(listing(tmp_path, ["none.png"] * 130), lambda done, total: calls.append((done, total)))
    assert calls == [(64, 130), (128, 130), (130, 130)]
