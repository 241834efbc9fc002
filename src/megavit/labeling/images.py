"""List the images of a folder that can be labeled, and check the names of classes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megavit.config.names import abbreviate, find_look_alikes, printable
from megavit.data.sources.label_log import list_image_files
from megavit.data.sources.table_cells import read_class
from megavit.errors import ConfigError, DataError

MAX_CLASSES = 1_000
MAX_NAME_LENGTH = 100


@dataclass(frozen=True)
class ImageList:
    """The images of a folder.

    Attributes:
        names: paths relative to the folder, with "/"; an image is named by its index here.
        unnamed: paths that are left out, as a line of text cannot hold them.
    """

    folder: Path
    names: tuple[str, ...]
    unnamed: tuple[str, ...]

    def path(self, index: int) -> Path:
        """Return where an image is."""
        return self.folder / self.names[index]


def list_images(folder: Path) -> ImageList:
    """List the files in and below a folder that have an image's suffix, without opening any.

    Raises:
        DataError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {problem}: megavit label takes a folder of images")
    names = list(list_image_files(folder))
    written = [name for name in names if _is_text(name)]
    if not written:
        raise DataError(f"there is no image in the folder {folder} or below it")
    return ImageList(folder, tuple(written), tuple(name for name in names if not _is_text(name)))


def digest_name(name: str) -> bytes:
    """Return a digest of an image's name; sorted by it, images are in an order that is random and never changes."""
    return hashlib.sha256(name.encode()).digest()


def check_classes(names: Sequence[str]) -> list[str]:
    """Return the names of classes in canonical form, or raise a ConfigError if one cannot be used."""
    checked: list[str] = []
    for name in names:
        checked.append(check_class(name, checked))
    return list(dict.fromkeys(checked))


def check_class(name: str, known: Sequence[str]) -> str:
    """Return the name of a class in canonical form; one that is known needs no further check.

    Raises:
        ConfigError: if it is empty, too long, of invisible characters, or looks like another class.
    """
    if not name.isprintable() or len(name) > MAX_NAME_LENGTH:
        raise ConfigError(
            f"the name of a class is one line of at most {MAX_NAME_LENGTH} visible characters; got "
            f"{abbreviate([printable(name)])!r}"
        )
    try:
        checked = read_class(name)
    except DataError as error:
        raise ConfigError(str(error)) from error
    if checked in known:
        return checked
    alike = next((group for group in find_look_alikes([*known, checked]) if checked in group), None)
    if alike is not None:
        raise ConfigError(f"the class {checked!r} looks like {alike[0]!r}, which is there already: use that one")
    if len(known) >= MAX_CLASSES:
        raise ConfigError(f"there are {MAX_CLASSES:,} classes already, the most that a page can show")
    return checked


def _is_text(name: str) -> bool:
    # A line of the log has no line break, and is UTF-8, of which Python keeps other bytes as surrogates.
    return not any(letter in "\n\r" or "\ud800" <= letter <= "\udfff" for letter in name)
