"""Pictures of the page of `megavit label` for the guide: in light and dark, on a wide screen and on a phone.

    python -m benchmarks.labeling.screenshots photos/clothing/val

Takes a folder of CLASS/*.jpg, some of whose images become a heap without labels; the first that the page offers are
labeled as they are. Then the page is shown in a headless Chromium, and docs/images/label-*.webp are written.
"""

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

from benchmarks.labeling.oracle import open_page, serve_folder, wait_until_seen

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDE, PHONE = {"width": 1200, "height": 760}, {"width": 390, "height": 844}
MAX_BYTES = 120_000


def copy_heap(source: Path, folder: Path, count: int) -> dict[str, str]:
    """Copy some images of class folders into one folder, and return the class of each name."""
    chosen = random.Random(0).sample(sorted(source.glob("*/*.jpg")), count)
    folder.mkdir()
    labels: dict[str, str] = {}
    for number, path in enumerate(chosen):
        name = f"photo-{number:03}.jpg"
        shutil.copyfile(path, folder / name)
        labels[name] = path.parent.name
    return labels


def label_some(url: str, labels: dict[str, str], count: int) -> None:
    """Label images in the page's order, and wait until all that is learned of them is there."""
    with httpx.Client(base_url=url, timeout=600) as client:
        names: list[str] = client.get("api/session").json()["names"]
        for number in range(count):
            (offered,) = client.get("api/queue", params={"count": 1}).json()["images"]
            mark = {"image": offered["image"]}
            stroke = {"stroke": f"{number:08}", "status": "labeled", "labels": [labels[names[mark["image"]]]]}
            client.post("api/strokes", json=stroke | {"marks": [mark]}).raise_for_status()
        while _labels_learned(client) < 0.9 * count:  # an estimate is made anew once there are some more labels
            time.sleep(0.5)


def _labels_learned(client: httpx.Client) -> int:
    estimate: dict[str, Any] | None = client.get("api/changes").json()["learning"]["estimate"]
    return estimate["labels"] if estimate else 0


def take(page: "Page", name: str) -> None:
    """Write what the page shows as a small image."""
    page.wait_for_timeout(500)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        page.screenshot(path=path)
        image = Image.open(path).convert("RGB")
        for quality in range(80, 20, -10):
            image.save(IMAGES / f"label-{name}.webp", quality=quality, method=6)
            if (IMAGES / f"label-{name}.webp").stat().st_size < MAX_BYTES:
                return
    raise SystemExit(f"the picture {name} is too large")


def show(page: "Page", scheme: str, size: dict[str, int]) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": size["width"], "height": size["height"]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--labels", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        heap = Path(work) / "wardrobe"
        labels = copy_heap(arguments.source, heap, arguments.images)
        with serve_folder(heap, "--classes", ",".join(sorted(set(labels.values())))) as (_, url):
            wait_until_seen(url)
            label_some(url, labels, arguments.labels)
            with open_page(url) as page:
                page.locator(".cell.suggested").first.wait_for()
                for name, scheme, size in (("light", "light", WIDE), ("phone", "light", PHONE)):
                    show(page, scheme, size)
                    take(page, name)
                page.keyboard.press("o")
                while not page.locator("#picture-label").inner_text():  # to one for which a class is suggested
                    page.keyboard.press("ArrowRight")
                for name, scheme, size in (("dark", "dark", WIDE), ("phone-dark", "dark", PHONE)):
                    show(page, scheme, size)
                    take(page, name)


if __name__ == "__main__":
    main()
