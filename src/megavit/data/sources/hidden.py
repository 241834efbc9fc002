"""Files and folders that nobody put there as images: hidden ones, and those that systems and programs keep."""

HIDDEN = "hidden, or kept there by a system"
"""Why such a file or folder is skipped."""

WRITTEN = "written by megavit"
"""Why an output of our own, found among the images, is skipped."""

EXPLAINED = ".explained.png"
"""How the name of an explained image ends."""

_SYSTEM = frozenset(
    (
        "thumbs.db",  # Windows
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "icon\r",  # macOS
        "__macosx",
        "network trash folder",
        "temporary items",
        "lost+found",  # Linux
        "@eadir",  # Synology
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "@__thumb",
        "@sharebin",
        "@tmp",
        "@transcode",
        "__pycache__",  # programs
        "found.000",
        "cvs",
    )
)
# Each set of files stands in a folder that we write: a run, a bundle, a check.
_OURS = (
    frozenset(("plan.json", "recipe.toml")),
    frozenset(("megavit.json", "model.safetensors")),
    frozenset(("check.csv", "check.html")),
)


def is_hidden(name: str) -> bool:
    """Return whether the name of a file or folder, without those above it, is a hidden or a system's one."""
    return (name.startswith((".", "~$")) and name not in (".", "..")) or name.casefold() in _SYSTEM


def is_written(names: set[str]) -> bool:
    """Return whether files of these names stand together in a folder that a run, a check or a bundle is in."""
    return any(together <= names for together in _OURS)
