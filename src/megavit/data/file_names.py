"""Classify files by their names as images, hidden, or written by megavit."""

IMAGE_SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "gif", "tif", "tiff", "avif", "npy", "img", "bin"),
    *("heic", "heif", "jxl", "dcm", "dicom"),
)
"""File name suffixes of images; the content determines the format."""

HIDDEN = "hidden or created by the system"
WRITTEN = "written by megavit"

EXPLANATION_SUFFIX = ".explained.png"

_SYSTEM_NAMES = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler"),  # Windows
        *("system volume information", "found.000"),
        *("icon\r", "__macosx", "network trash folder", "temporary items"),  # macOS
        "lost+found",  # Linux
        *("@eadir", "#recycle", "#snapshot", "@sharebin", "@tmp"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "@transcode"),  # QNAP
        *("__pycache__", "cvs"),  # programs
    )
)
# Sets of files that identify a folder written by megavit: a run, a bundle, a check.
_WRITTEN_FILES = (
    frozenset(("plan.json", "recipe.toml")),
    frozenset(("megavit.json", "model.safetensors")),
    frozenset(("check.csv", "check.html")),
)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or belongs to the system, by its name without parents."""
    return (name.startswith((".", "~$")) and name not in (".", "..")) or name.casefold() in _SYSTEM_NAMES


def is_written(names: set[str]) -> bool:
    """Return whether the names of a folder's files are those of a run, a check or a bundle."""
    return any(files <= names for files in _WRITTEN_FILES)
