"""Images are embedded once, and those found are the most similar, with their copies."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import megavit
from megavit.errors import BundleError, ConfigError, DataError
from megavit.search.build import default_index_path
from megavit.training.progress import NullReporter
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.command_line import run_megavit
from tests.helpers.labeled_images import make_scene

SCENES = 40


class Listening(NullReporter):
    """A reporter that remembers how many images were embedded, and what was said."""

    def __init__(self) -> None:
        self.embedded = 0
        self.said: list[str] = []

    def progress(self, what: str, done: int, total: int) -> None:
        if what == "embedding images":
            self.embedded = total

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A bundle, and a folder of pictures that no two of are alike."""
    make_bundle(tmp_path / "bundle")
    (tmp_path / "scenes").mkdir()
    for seed in range(SCENES):
        picture = Image.fromarray(make_scene(seed).permute(1, 2, 0).numpy())
        picture.save(tmp_path / "scenes" / f"{seed:02}.png")
    return tmp_path


def test_the_images_of_a_run_are_found_with_their_classes_and_read_only_once(
    digits_bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(digits_bundle, tmp_path / "bundle")
    reporter = Listening()
    search = megavit.index_images(tmp_path / "bundle", reporter=reporter)
    assert reporter.embedded == len(search.index.images) == 120
    assert default_index_path(search.predictor) == tmp_path / "bundle.index.safetensors"
    digits = digits_bundle.parent / "digits"
    right = 0
    for digit in range(3):
        query = digits / f"digit {digit}" / "000.png"
        matches = search.find(query, top=10)
        similarities = [match.similarity for match in matches]
        assert similarities == sorted(similarities, reverse=True)
        assert len(matches) == 10 and query.as_posix() not in {match.image.name for match in matches}
        right += sum(match.image.label == f"digit {digit}" for match in matches)
    assert right >= 24
    reporter = Listening()
    again = megavit.index_images(tmp_path / "bundle", data=tmp_path / "gone", reporter=reporter)
    assert reporter.embedded == 0 and again.index.images == search.index.images


def test_copies_are_told_from_images_that_are_only_similar(scenes: Path) -> None:
    search = megavit.index_images(scenes / "bundle", [scenes / "scenes"])
    with Image.open(scenes / "scenes" / "07.png") as image:
        changed = image.resize((60, 60)).point(lambda value: min(255, value + 12))
    changed.save(scenes / "query.jpg", quality=80)
    matches = search.find(scenes / "query.jpg", top=25)
    assert [Path(match.image.name).name for match in matches if match.is_near_copy] == ["07.png"]
    assert [match.is_near_copy for match in matches[20:]] == [None] * 5


def test_only_new_images_are_embedded_and_unreadable_ones_are_said(scenes: Path) -> None:
    folder = scenes / "scenes"
    assert len(megavit.index_images(scenes / "bundle", [folder]).index.images) == SCENES
    (folder / "broken.png").write_bytes(b"nothing")
    shutil.copy(folder / "00.png", folder / "new.png")
    (folder / "01.png").unlink()
    reporter = Listening()
    search = megavit.index_images(scenes / "bundle", [folder], reporter=reporter)
    assert reporter.embedded == 2 and len(search.index.images) == SCENES
    (said,) = reporter.said
    assert said.startswith("1 files could not be read, such as ") and "broken.png" in said
    (scenes / "empty").mkdir()
    with pytest.raises(DataError, match="there are no images to search in"):
        megavit.index_images(scenes / "bundle", [scenes / "empty"])


def test_an_index_of_another_model_is_made_anew_and_a_damaged_one_is_refused(scenes: Path) -> None:
    index = scenes / "index.safetensors"
    first = megavit.index_images(scenes / "bundle", [scenes / "scenes"], index=index)
    make_bundle(scenes / "other", make_model(seed=1))
    reporter = Listening()
    other = megavit.index_images(scenes / "other", [scenes / "scenes"], index=index, reporter=reporter)
    assert reporter.embedded == SCENES and not first.index.vectors.equal(other.index.vectors)
    index.write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"index\.safetensors is not an index, or is damaged"):
        megavit.index_images(scenes / "other", [scenes / "scenes"], index=index)
    with pytest.raises(ConfigError, match="leave out one"):
        megavit.index_images(scenes / "other", [scenes / "scenes"], data="elsewhere")


def test_what_a_search_has_embedded_is_not_embedded_again_to_add_a_class(
    digits_bundle: Path, added_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEGAVIT_CACHE", str(tmp_path / "cache"))
    shutil.copytree(digits_bundle, tmp_path / "bundle")
    assert len(megavit.index_images(tmp_path / "bundle").index.images) == 120
    reporter = Listening()
    folder = added_digits / "new" / "digit 3"
    added = megavit.add_classes(tmp_path / "bundle", [folder], out=tmp_path / "four", reporter=reporter)
    assert reporter.embedded == 30
    reporter = Listening()
    assert len(megavit.index_images(added, reporter=reporter).index.images) == 150 and reporter.embedded == 0


def test_the_command_lists_what_was_found(scenes: Path) -> None:
    arguments = ("search", "bundle", "scenes/03.png", "nowhere.png", "--among", "scenes", "--top", "2")
    done = run_megavit(*arguments, cwd=scenes)
    assert done.returncode == 2 and "searching in 40 images" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "scenes/03.png" and len(lines) == 4
    found = run_megavit(*arguments, "--json", cwd=scenes)
    good, bad = map(json.loads, found.stdout.splitlines())
    assert good["path"] == "scenes/03.png" and [len(good["matches"]), good["matches"][0]["near_copy"]] == [2, False]
    assert good["matches"][0]["path"] in lines[1] and bad["path"] == "nowhere.png" and "error" in bad


def test_the_page_shows_what_was_found_and_an_overview_of_what_was_searched(
    digits_bundle: Path, added_digits: Path, tmp_path: Path
) -> None:
    megavit.add_classes(digits_bundle, [added_digits / "new" / "digit 3"], out=tmp_path / "four")
    query = added_digits / "new" / "digit 3" / "000.png"
    done = run_megavit("search", "four", query, "--report", "page.html", cwd=tmp_path)
    assert done.returncode == 0 and "searching in 150 images" in done.stderr, done.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    for title in ("Found", "The hardest", "The strangest", "Groups"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("data:image/png") > 100 and "% of them digit 3" in page
