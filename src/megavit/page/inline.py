"""Render small pieces of HTML for notebooks, without scripts, style sheets and requests."""

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Readable on the light and dark backgrounds of notebooks.
_BLOCK = "font-family: sans-serif; font-size: 13px; line-height: 1.5; max-width: 640px"
_CELL = "text-align: left; padding: 1px 12px 1px 0; border: 0; background: none; vertical-align: middle"
_TRACK = "width: 160px; height: 9px; background: rgba(128, 128, 128, .25); border-radius: 2px"
_BAR = "height: 9px; background: #3b82c4; border-radius: 2px"
_WARNING = "border-left: 3px solid #d08700; padding-left: 8px; margin: 4px 0"


def block(*parts: str) -> str:
    """Return pieces of HTML below each other."""
    return f'<div style="{_BLOCK}">{"".join(parts)}</div>'


def heading(text: str) -> str:
    """Return a line of text in bold."""
    return f"<div><strong>{_escape(text)}</strong></div>"


def line(text: str) -> str:
    """Return a line of text."""
    return f"<div>{_escape(text)}</div>"


def warning(text: str) -> str:
    """Return a line of text that stands out."""
    return f'<div style="{_WARNING}">{_escape(text)}</div>'


def bars(rows: Iterable[tuple[str, float, str]]) -> str:
    """Return a table of names, each with a bar for its share in [0, 1], and a text behind it."""
    cells = (
        f'<tr><td style="{_CELL}">{_escape(name)}</td>'
        f'<td style="{_CELL}"><div style="{_TRACK}"><div style="{_BAR}; width: {share:.1%}"></div></div></td>'
        f'<td style="{_CELL}">{_escape(text)}</td></tr>'
        for name, share, text in rows
    )
    return f'<table style="border-collapse: collapse">{"".join(cells)}</table>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    cells = (
        f'<tr><td style="{_CELL}">{_escape(name)}</td><td style="{_CELL}">{_escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="border-collapse: collapse">{"".join(cells)}</table>'


def picture(image: "Image.Image", alt: str) -> str:
    """Return an image with a text for those who cannot see it."""
    return f'<img src="{data_uri(image)}" alt="{_escape(alt)}" style="max-width: 100%">'


def data_uri(image: "Image.Image | bytes", kind: str = "PNG") -> str:
    """Return an image, or the bytes of its file, as a data URI."""
    if not isinstance(image, bytes):
        buffer = BytesIO()
        image.save(buffer, format=kind, optimize=True, quality=85)
        image = buffer.getvalue()
    return f"data:image/{kind.lower()};base64,{b64encode(image).decode('ascii')}"


def _escape(text: str) -> str:
    # File names may contain bytes that are not text.
    return escape(text.encode(errors="replace").decode())
