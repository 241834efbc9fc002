"""Which files, by their names, are images, hidden, or written by megavit."""

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "gif", "tif", "tiff", "avif", "npy", "img", "bin")
"""Suffixes of images; the content of a file decides which kind it is."""

HIDDEN = "hidden, or kept there by a system"
WRITTEN = "written by megavit"
"""Why such files and folders are skipped."""

EXPLAINED = ".explained.png"
"""How the name of an explained image ends."""

_SYSTEM = frozenset(
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
# Each set of files is in a folder that we write: a run, a bundle, a check.
_OURS = (
    frozenset(("plan.json", "recipe.toml")),
    frozenset(("megavit.json", "model.safetensors")),
    frozenset(("check.csv", "check.html")),
)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name, without those above it, is hidden or a system's own."""
    return (name.startswith((".", "~$")) and name not in (".", "..")) or name.casefold() in _SYSTEM


def is_written(names: set[str]) -> bool:
    """Return whether a folder with files of these names is that of a run, a check or a bundle."""
    return any(files <= names for files in _OURS)
