from megavit.check.files import HARMLESS, file_findings
from megavit.config.recipe import DataRecipe
from megavit.data.dataset import Skipped
from megavit.data.load import load_data
from tests.helpers.labeled_images import labeled, scene


def kinds(*skipped):
    return [(one.kind, one.images) for one in file_findings(labeled([scene(0)], skipped=skipped))]


def test_a_damaged_image_is_serious_and_a_text_beside_it_is_not():
    assert kinds(Skipped("a.jpg", "damaged or cut short")) == [("unreadable", ("a.jpg",))]
    assert kinds(Skipped("a.jpg", "not an image (.jpg)")) == [("unreadable", ("a.jpg",))]
    assert kinds(Skipped("a.txt", "not an image (.txt)"), Skipped("b.txt", "not an image (.txt)")) == [
        ("unused", ("a.txt", "b.txt"))
    ]
    assert kinds(Skipped("a.npy", "5 channels, where most images have 1, 3 or 4")) == [("channels", ("a.npy",))]


def test_reasons_are_those_of_the_data(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        picture = scene(len(name) + ord(name[0]))
        from PIL import Image

        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / name / "a.png")
    (tmp_path / "cat" / ".hidden").touch()
    (tmp_path / "cat" / "a.explained.png").touch()
    (tmp_path / "loose.png").touch()
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    images = load_data(tmp_path, DataRecipe())
    found = {one.images: (one.kind, one.sentence) for one in file_findings(images)}
    assert found.pop(("cat/gone.png",)) == ("unreadable", "a broken link")
    assert {kind for kind, _ in found.values()} == {"unused"}
    assert {reason for _, reason in found.values()} == set(HARMLESS) - {"listed twice"}
