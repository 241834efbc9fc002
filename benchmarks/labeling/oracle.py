"""How many labels a model needs when a page chooses the images, beside images in random order.

    python benchmarks/labeling/oracle.py photos/clothing --labels 400 --seeds 3
    python benchmarks/labeling/oracle.py photos/clothing --labels 100 --browser

Takes a folder of train/CLASS/* and val/CLASS/*. The images of train become a heap without labels, under names that are
drawn anew for each seed; an oracle that knows their classes labels them one by one, in the order of `megavit label` and
in random order. After some of them a linear probe on the labels so far is measured on the images of val, beside what
the page says of itself. With `--browser`, the page's order is the one in which its images come while the oracle presses
its keys in a headless Chromium, and the strokes and seconds an image are told too.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import torch
from rich.console import Console
from torch import Tensor

from megavit.config.recipe import AUTO
from megavit.data.file_names import IMAGE_SUFFIXES
from megavit.data.sources.label_log import LABEL_LOG, parse_label_log
from megavit.labeling.images import ImageList, digest_name, list_images
from megavit.labeling.learning.feature_table import FeatureTable
from megavit.labeling.learning.features import Features, load_features
from megavit.labeling.learning.probe import GrowingProbe, Scaling
from megavit.labeling.session import LabelingSession
from megavit.labeling.thumbnails import Thumbnails
from megavit.runtime.device import pick_device
from megavit.training.progress import NullReporter

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHECKPOINTS = (10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1200)
KEYS = "1234567890"


class SharedFeatures:
    """Features that are computed once for each picture, under whatever names."""

    def __init__(self, features: Features) -> None:
        self.name, self.key, self._features = features.name, features.key, features
        self._rows: dict[bytes, Tensor] = {}

    def compute(self, thumbnails: Sequence[Tensor]) -> Tensor:
        digests = [hashlib.sha256(one.numpy().tobytes()).digest() for one in thumbnails]
        missing = {digest: one for digest, one in zip(digests, thumbnails, strict=True) if digest not in self._rows}
        if missing:
            self._rows |= zip(missing, self._features.compute(list(missing.values())), strict=True)
        return torch.stack([self._rows[digest] for digest in digests])


def make_heap(source: Path, folder: Path, seed: int) -> dict[str, str]:
    """Link the images of class folders into one folder unless they are there, and return the class of each new name."""
    names = random.Random(seed)
    labels: dict[str, str] = {}
    for path in sorted(source.glob("*/*")):
        if path.suffix[1:].lower() in IMAGE_SUFFIXES:
            name = f"{names.getrandbits(64):016x}{path.suffix}"
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(path.resolve())
            labels[name] = path.parent.name
    return labels


def compute_all(features: Features, images: ImageList) -> Tensor:
    """Return the features of all images, (N, D), which are kept in their folder for the page."""
    table = FeatureTable(features, Thumbnails(images), range(len(images.names)))
    while not table.is_complete:
        table.compute_some()
    assert table.rows is not None and not table.failed
    return table.rows


class Run:
    """A heap with its held-back part, which is labeled once in each order."""

    def __init__(self, data: Path, work: Path, features: Features, seed: int) -> None:
        self.folder, held_back = work / "heap", work / "held-back"
        self.folder.mkdir(parents=True, exist_ok=True)
        held_back.mkdir(exist_ok=True)
        (self.folder / LABEL_LOG).unlink(missing_ok=True)
        self.labels = make_heap(data / "train", self.folder, seed)
        truth = make_heap(data / "val", held_back, seed)
        self.classes = sorted(set(self.labels.values()))
        images = list_images(held_back)
        self.features = features
        self.test_rows = compute_all(features, images)
        self.truth = torch.tensor([self.classes.index(truth[name]) for name in images.names])

    def label(self, count: int) -> list[dict[str, Any]]:
        """Label `count` images in the page's order."""
        session = LabelingSession(list_images(self.folder), lambda *_: self.features, self.classes)
        learner = session.learner
        learner.start()
        while learner.table is None or not learner.table.is_complete or not learner.knowledge.useful:
            time.sleep(0.05)
        rows, labeled = learner.table.rows, list[int]()
        assert rows is not None
        points: list[dict[str, Any]] = []
        seconds: list[float] = []
        for number in range(count):
            index = session.queue(1)[0]["image"]
            version = learner.knowledge.version
            mark = {"image": index, "seen": "", "suggested": "", "probability": ""}
            session.label(f"{number:08}", "labeled", [self.labels[session.images.names[index]]], [mark])
            labeled.append(index)
            while learner.knowledge.version == version:
                time.sleep(0.002)
            seconds.append(learner.knowledge.seconds)
            if number + 1 in CHECKPOINTS:
                # An estimate is made anew once there are some more labels, so that it may be of slightly fewer.
                while (estimate := learner.estimate) is None or estimate.labels < 0.95 * (number + 1):
                    time.sleep(0.01)
                point = self.measure(rows, labeled, session.images.names)
                points.append(point | {"estimate": estimate.to_dict(), "fit_seconds": max(seconds)})
        learner.stop()
        return points

    def label_randomly(self, count: int) -> list[dict[str, Any]]:
        """Label `count` images in random order."""
        images = list_images(self.folder)
        rows = compute_all(self.features, images)
        order = sorted(range(len(images.names)), key=lambda index: digest_name(images.names[index]))
        return [
            self.measure(rows, order[:checkpoint], images.names) for checkpoint in CHECKPOINTS if checkpoint <= count
        ]

    def measure(self, rows: Tensor, labeled: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
        """Return the accuracy on the held-back images of a probe that is fitted to some labels."""
        scaling = Scaling.of(rows)
        targets = torch.tensor([self.classes.index(self.labels[names[index]]) for index in labeled])
        probe = GrowingProbe("classification")
        encoded = torch.nn.functional.one_hot(targets, len(self.classes)).float()
        for _ in range(3):
            probe.fit(scaling(rows[torch.tensor(labeled)]), encoded)
        predicted = probe.predict(scaling(self.test_rows)).argmax(dim=1)
        return {"labels": len(labeled), "accuracy": (predicted == self.truth).double().mean().item()}


@contextmanager
def serve_folder(folder: Path, *options: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Yield a process of `megavit label` and its address."""
    command = [sys.executable, "-m", "megavit", "label", str(folder), *options, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server, json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()


@contextmanager
def open_page(url: str) -> "Iterator[Page]":
    """Yield a page in a headless Chromium, with images."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(3_600_000)
        page.goto(url)
        page.locator(".cell img").first.wait_for()
        yield page
        browser.close()


def wait_until_seen(url: str) -> int:
    """Wait until all images have features and an order, and return their number."""
    with httpx.Client(base_url=url, timeout=600) as client:
        while (learning := _learning(client))["done"] < learning["total"] or not learning["version"]:
            time.sleep(0.5)
        return learning["total"]


def _learning(client: httpx.Client) -> dict[str, Any]:
    return client.get("api/changes").json()["learning"]


def press_keys(
    page: "Page", labels: dict[str, str], count: int, *, waits: bool = False, pace: float = 0.0
) -> dict[str, Any]:
    """Label `count` images by the keys of the page, one by one, taking what is suggested where it is right.

    Args:
        waits: whether to wait before each key until the labels before the last one are learned, and the page knows it,
            as a person does who takes a second for an image on a machine without other work.
        pace: seconds before each key.
    """
    classes = page.locator("#classes bdi").all_inner_texts()
    page.keyboard.press("o")
    began, taken, waited = time.perf_counter(), 0, 0.0
    for number in range(count):
        if waits:
            start = time.perf_counter()
            with httpx.Client(base_url=page.url, timeout=600) as client:
                while _learning(client)["labels"] < number:
                    time.sleep(0.05)
            waited += time.perf_counter() - start
        time.sleep(pace)
        name = page.locator("#picture").get_attribute("alt") or ""
        suggested = page.locator("#picture-label").inner_text().partition("?")[0]
        taken += labels[name] == suggested
        page.keyboard.press("Enter" if labels[name] == suggested else KEYS[classes.index(labels[name])])
        page.wait_for_function("(name) => document.querySelector('#picture').alt !== name", arg=name)
    seconds = (time.perf_counter() - began - waited) / count
    return {
        "images": count,
        "suggestions_taken": taken,
        "seconds_an_image": seconds,
        "seconds_to_learn": waited / count,
    }


def label_by_page(run: Run, source: str, count: int) -> dict[str, Any]:
    """Label images of a heap by the keys of the page, and return what it then says of itself, and what is true."""
    images = list_images(run.folder)
    rows = compute_all(run.features, images)
    with serve_folder(run.folder, "--classes", ",".join(run.classes), "--from", source) as (_, url):
        wait_until_seen(url)
        with open_page(url) as page:
            found = press_keys(page, run.labels, count, waits=True)
            page.wait_for_function("() => document.querySelector('#learned').textContent.includes('%')")
            found["shown"] = page.locator("#learned").inner_text()
    decisions = parse_label_log((run.folder / LABEL_LOG).read_bytes(), LABEL_LOG).decisions
    found["strokes"] = len({one.stroke for one in decisions})
    found["right"] = sum(one.labels == (run.labels[one.path],) for one in decisions)
    order = [images.names.index(one.path) for one in decisions]
    assert len(set(order)) == count
    points = [run.measure(rows, order[:checkpoint], images.names) for checkpoint in CHECKPOINTS if checkpoint <= count]
    return found | {"points": points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--from", dest="source", default=AUTO)
    parser.add_argument("--browser", action="store_true", help="let the oracle press the keys of the page")
    parser.add_argument("--work", type=Path, help="folder for the heaps, whose features stay there")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    console = Console()
    results: list[dict[str, Any]] = []
    features: SharedFeatures | None = None
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as work:
            folder = arguments.work / str(seed) if arguments.work else Path(work)
            if features is None:
                (folder / "sample").mkdir(parents=True, exist_ok=True)
                make_heap(arguments.data / "train", folder / "sample", seed)
                images = list_images(folder / "sample")
                order = range(len(images.names))
                features = SharedFeatures(
                    load_features(arguments.source, images, order, pick_device("cpu"), NullReporter())
                )
                console.print(f"learning from {features.name}")
            run = Run(arguments.data, folder, features, seed)
            by_chance = run.label_randomly(arguments.labels)
            if arguments.browser:
                found = label_by_page(run, arguments.source, arguments.labels)
                by_page = found.pop("points")
                results.append({"seed": seed, "browser": found, "page": by_page, "random": by_chance})
                console.print_json(data=found)
            else:
                by_page = run.label(arguments.labels)
                results.append({"seed": seed, "page": by_page, "random": by_chance})
            for ours, other in zip(by_page, by_chance, strict=True):
                console.print(f"seed {seed}, {_describe(ours, other)}")
            if arguments.out:
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")


def _describe(ours: dict[str, Any], other: dict[str, Any]) -> str:
    text = f"{ours['labels']:>5} labels: page {ours['accuracy']:.1%}, random {other['accuracy']:.1%}"
    if "estimate" not in ours:
        return text
    own = ours["estimate"]["accuracy"]
    estimate = "none" if own is None else f"{own['value']:.1%} ({own['low']:.1%} to {own['high']:.1%})"
    return f"{text}; the page says {estimate}; slowest fit {ours['fit_seconds']:.2f} s"


if __name__ == "__main__":
    main()
