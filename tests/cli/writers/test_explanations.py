"""The names of heat maps, which are those of the images as far as the system allows."""

import pytest
from PIL import Image

from megavit.cli.writers import explanations
from megavit.cli.writers.explanations import HeatMapFolder


class Heat:
    """What is written of an explanation: its picture."""

    def overlay(self) -> Image.Image:
        return Image.new("RGB", (2, 2))


@pytest.mark.parametrize(
    ("name", "elsewhere", "windows"),
    [
        ("a/photo.png", "photo", "photo"),
        ("con.png", "con", "_con"),
        ("LPT1.x.png", "LPT1.x", "_LPT1.x"),
        ("console.png", "console", "console"),
        ("a:b?.png", "a:b?", "a_b_"),
        ("tab\there.png", "tab\there", "tab_here"),
    ],
)
def test_names_that_windows_refuses_are_changed_there(name, elsewhere, windows, tmp_path, monkeypatch):
    for is_windows, stem in ((False, elsewhere), (True, windows)):
        monkeypatch.setattr(explanations, "IS_WINDOWS", is_windows)
        folder = tmp_path / str(is_windows)
        folder.mkdir()
        for suffix in ("", "-2"):
            path = HeatMapFolder.save(HeatMapFolder(folder), Heat(), name)  # type: ignore[arg-type]
            assert path == folder / f"{stem}{suffix}.explained.png" and path.stat().st_size
