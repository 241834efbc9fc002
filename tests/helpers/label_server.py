"""The labeling page of a folder, served from a thread of the test's process."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from megavit.config.target import TargetKind
from megavit.data.sources.label_log import LABEL_LOG, Decision, parse_label_log
from megavit.labeling.images import list_images
from megavit.labeling.learning.features import PlainFeatures
from megavit.labeling.server import serve_page
from megavit.labeling.session import LabelingSession
from tests.helpers.page_images import encode_image, make_noise


@dataclass
class LabelServer:
    """A page, by its address with the token."""

    address: str
    folder: Path
    session: LabelingSession

    def decisions(self) -> list[Decision]:
        """Return the log as it is on the disk."""
        path = self.folder / LABEL_LOG
        data = path.read_bytes() if path.exists() else b""
        return list(parse_label_log(data, "log").decisions) if data else []

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Return the labels that count, by image."""
        last = {one.path: one for one in self.decisions()}
        return {path: one.labels for path, one in last.items() if one.status == "labeled"}


@contextmanager
def label_server(
    folder: Path,
    classes: Sequence[str] = ("cat", "dog"),
    target: TargetKind = "classification",
    *,
    learns: bool = False,
) -> Iterator[LabelServer]:
    """Serve the page of a folder."""
    session = LabelingSession(
        list_images(folder), lambda *_: PlainFeatures(), classes, target, lambda: folder.parent / "run"
    )
    ready, addresses, loops, stop = threading.Event(), list[str](), list[asyncio.AbstractEventLoop](), asyncio.Event()

    def get_stop() -> asyncio.Event:
        loops.append(asyncio.get_running_loop())
        return stop

    def on_ready(address: str) -> None:
        if learns:
            session.start()
        addresses.append(address)
        ready.set()

    thread = threading.Thread(target=serve_page, args=[session, 0, on_ready, get_stop])
    thread.start()
    try:
        assert ready.wait(60)
        yield LabelServer(addresses[0], folder, session)
    finally:
        if thread.is_alive():
            loops[0].call_soon_threadsafe(stop.set)
        thread.join()
        session.stop()


def write_images(folder: Path, names: Sequence[str]) -> Path:
    """Write a small picture under each name."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(make_noise(seed=seed)))
    return folder


def write_stripes(folder: Path, count: int = 80) -> Path:
    """Write images with stripes along or across, by even and odd number, and one that cannot be read."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        wave = np.sin(np.arange(48) * random.uniform(0.6, 0.9) + random.uniform(0, 6))
        rows = np.tile(wave[:, None] if number % 2 else wave[None], (1, 48) if number % 2 else (48, 1))
        pixels = (120 + 60 * rows + random.normal(0, 25, (48, 48))).clip(0, 255).astype(np.uint8)
        (folder / f"{number:03}.png").write_bytes(encode_image(Image.fromarray(pixels)))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    return folder
