"""Explanations as files and as lines on a terminal."""

import os
from io import BytesIO
from itertools import count
from pathlib import Path

from megavit.config.names import printable
from megavit.data.sources.hidden import EXPLAINED
from megavit.explain.explanation import Explanation
from megavit.predict.standard_input import STANDARD_INPUT
from megavit.runtime.storage import writing

# Most file systems take names of 255 bytes.
_LONGEST = 200


class ExplainedFolder:
    """Writes NAME.explained.png, or NAME-2.explained.png where that is there, and so on: it overwrites nothing.

    Args:
        folder: where to, which must be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: dict[str, int] = {}
        self._written: set[Path] = set()

    def wrote(self, image: object) -> bool:
        """Whether an image was made here, which is found again where the folder is within the one that is explained."""
        return isinstance(image, Path) and image.resolve() in self._written

    def save(self, explanation: Explanation, name: str) -> Path:
        """The new file for the image of that name.

        Raises:
            OutputError: when it cannot be written.
        """
        stem = "standard-input" if name == STANDARD_INPUT else Path(name).stem
        stem = os.fsdecode(os.fsencode(stem)[:_LONGEST])
        content = BytesIO()
        explanation.overlay().save(content, format="PNG")
        for number in count(self._taken.get(stem, 0) + 1):
            path = self.folder / f"{stem}{'' if number == 1 else f'-{number}'}{EXPLAINED}"
            with writing("an explained image", path):
                try:
                    with path.open("xb") as file:
                        file.write(content.getvalue())
                except FileExistsError:
                    continue
            self._taken[stem] = number
            self._written.add(path.resolve())
            return path
        raise AssertionError("there are numbers without end")


def told(explanation: Explanation) -> str:
    """The answer, and where in the image it comes from."""
    if explanation.label is None:
        answer = f"{explanation.score:.4g}"
    else:
        answer = f"{printable(explanation.label)} {explanation.probability:.1%}"
    focus = explanation.focus
    if focus.place == "nothing":
        return f"{answer}  nothing in it speaks for that"
    patches = explanation.map.numel()
    return f"{answer}  looks at {focus.place}: {focus.top:,} of {patches:,} patches hold {focus.share:.0%}"
