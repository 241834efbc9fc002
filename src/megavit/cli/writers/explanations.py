"""Write heat maps to files, and describe explanations in a line."""

import os
import re
from io import BytesIO
from itertools import count
from pathlib import Path

from megavit.config.names import printable
from megavit.data.file_names import EXPLANATION_SUFFIX
from megavit.explain.explanation import Explanation
from megavit.predict.standard_input import STANDARD_INPUT
from megavit.runtime.storage import IS_WINDOWS, writing

_MAX_NAME_BYTES = 200
"""Most file systems take names of up to 255 bytes."""
_NOT_ON_WINDOWS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_PORTS = (f"{kind}{number}" for kind in ("COM", "LPT") for number in range(1, 10))
_RESERVED_ON_WINDOWS = frozenset(("CON", "PRN", "AUX", "NUL", *_PORTS))


class HeatMapFolder:
    """A writer of heat maps NAME.explained.png, or NAME-2.explained.png and so on, into an existing folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: dict[str, int] = {}
        self._written: set[Path] = set()

    def has_written(self, image: object) -> bool:
        """Return whether an image is a heat map that this object has written."""
        return isinstance(image, Path) and image.resolve() in self._written

    def save(self, explanation: Explanation, name: str) -> Path:
        """Write the heat map of the named image, and return its path.

        Raises:
            OutputError: if it cannot be written.
        """
        stem = "standard-input" if name == STANDARD_INPUT else Path(name).stem
        stem = _allowed(os.fsdecode(os.fsencode(stem)[:_MAX_NAME_BYTES]))
        content = BytesIO()
        explanation.overlay().save(content, format="PNG")
        for number in count(self._taken.get(stem, 0) + 1):
            path = self.folder / f"{stem}{'' if number == 1 else f'-{number}'}{EXPLANATION_SUFFIX}"
            with writing("a heat map", path):
                try:
                    with path.open("xb") as file:
                        file.write(content.getvalue())
                except FileExistsError:
                    continue
            self._taken[stem] = number
            self._written.add(path.resolve())
            return path
        raise AssertionError("unreachable: the numbers never end")


def _allowed(stem: str) -> str:
    """Return the name without what Windows refuses or gives another meaning to, such as "a:b" and "con"."""
    if not IS_WINDOWS:
        return stem
    stem = _NOT_ON_WINDOWS.sub("_", stem)
    return f"_{stem}" if stem.partition(".")[0].rstrip().upper() in _RESERVED_ON_WINDOWS else stem


def describe(explanation: Explanation) -> str:
    """Return a line with the prediction and the location in the image that it is based on."""
    if explanation.label is None:
        prediction = f"{explanation.value:.4g}"
    else:
        prediction = f"{printable(explanation.label)} {explanation.probability:.1%}"
    summary = explanation.summary
    if summary.location == "nothing":
        return f"{prediction}  no patch speaks for it"
    patches, top = explanation.map.numel(), f"{summary.top_patches:,}"
    return f"{prediction}  looks at {summary.location}: {top} of {patches:,} patches hold {summary.top_share:.0%}"
