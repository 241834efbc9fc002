"""Small pictures as files in memory."""

import io
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import FilePayload, Page


def make_noise(height: int = 24, width: int = 32, seed: int = 0, channels: int = 3) -> Image.Image:
    """A picture of smooth colors."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    picture = Image.fromarray(coarse[:, :, 0] if channels == 1 else coarse)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def encode_image(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_payload(name: str = "rose.png", content: bytes | None = None) -> FilePayload:
    """What a file chooser is given."""
    content = encode_image(make_noise()) if content is None else content
    return {"name": name, "mimeType": "image/png", "buffer": content}


def choose_files(page: Page, *files: str | FilePayload) -> None:
    """Files, or names for the same picture, by the button and the browser's own dialogue."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose images").click()
    chooser.value.set_files([make_payload(file) if isinstance(file, str) else file for file in files])
