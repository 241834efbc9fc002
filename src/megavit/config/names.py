"""Compare, display and check the names of classes and files."""

import os
import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

MISSING = frozenset(
    (
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
        *("NULL", "NaN", "None", "n/a", "nan", "null", "NaT"),
    )
)
"""Ways to write a missing value: the defaults of `pandas.read_csv`, and pandas' NaT."""

_PLAIN_ON_WINDOWS = re.compile(r"[\w.:/\\-]+")
_ZERO_WIDTH = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# Cyrillic and Greek letters that look like Latin ones (Unicode Technical Standard 39).
_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u043a\u043c\u0442\u0432\u043d"
    "\u03bf\u03b1\u03bd\u03c1\u03ba\u03b9\u03c7\u03c4\u03c5",
    "aeopcyxijsdhkmtbhoavpkixtu",
)


def canonical(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), as macOS and other systems compose file names differently."""
    return unicodedata.normalize("NFC", name)


def index_by_name(names: Sequence[str]) -> dict[str, int]:
    """Return the index of each name, under the name itself and its canonical form."""
    return {canonical(name): index for index, name in enumerate(names)} | {
        name: index for index, name in enumerate(names)
    }


def is_missing(name: str) -> bool:
    """Return whether a cell or label denotes a missing value, such as nan, None or NULL."""
    return name.strip() in MISSING


def shell_quote(text: str) -> str:
    """Return the text as one argument for this system's shells: cmd and PowerShell on Windows, or those of POSIX."""
    if os.name != "nt":
        return shlex.quote(text)
    return text if _PLAIN_ON_WINDOWS.fullmatch(text) else f'"{text}"'  # no file name has quotation marks there


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with control and invisible characters escaped, such as \x1b or \n, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in text)


def find_look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of names that differ only in case, spaces, invisible or look-alike characters, or NFKC forms."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_skeleton(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def show_code_points(names: Sequence[str]) -> str:
    """Return the names with the code points in which they differ, as in "'é' (U+00E9)"."""
    parts: list[str] = []
    for name in names:
        differing: Counter[str] = Counter()
        for other in names:
            differing |= Counter(name) - Counter(other)
        points = " ".join(f"U+{ord(letter):04X}" for letter in differing)
        parts.append(f"'{printable(name)}'" + (f" ({points})" if points else ""))
    return " and ".join(parts)


def abbreviate(names: Sequence[str], max_names: int = 12) -> str:
    """Return the first `max_names` names on one line, each cut to 40 characters, and the number of the others."""
    shown = [printable(name if len(name) <= 40 else f"{name[:39]}…") for name in names[:max_names]]
    return ", ".join(shown) + (f", and {len(names) - max_names:,} more" if len(names) > max_names else "")


def _skeleton(name: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    plain = _ZERO_WIDTH.sub("", folded).translate(_LOOK_ALIKES)
    return " ".join(re.sub(r"[\s_\-]+", " ", plain).split())
