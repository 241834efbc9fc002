"""What was measured on a GPU, as a page in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {
    "correctness": "Correctness",
    "limits": "Matrix products",
    "training": "Training steps in bfloat16",
    "inference": "Forward passes in bfloat16",
    "input": "Input",
}


def render(figures: Mapping[str, Any]) -> str:
    """Return a page with the card's name in its title, and a table of each part, or of parts of one row together."""
    about = figures["about"]
    lines = [f"# megavit on {about['device']}", ""]
    lines += [f"{name}: {value}  " for name, value in about.items() if name != "kind"]
    failed = [part["name"] for part in figures["parts"] if not part.get("ok", True)]
    skipped = [part["name"] for part in figures["parts"] if "skipped" in part]
    what = "Everything that was measured" if skipped else "Everything"
    lines += ["", f"**Not as it must be: {', '.join(failed)}.**" if failed else f"{what} is as it must be."]
    if skipped:
        lines += ["", f"Left out: {', '.join(skipped)}."]
    if about.get("kind") == "cpu":
        lines += ["", "No GPU: tiny sizes on a CPU show that the measurements work, and nothing about a GPU's speed."]
    for heading, title in TITLES.items():
        parts = [part for part in figures["parts"] if part["heading"] == heading]
        if not parts:
            continue
        lines += ["", f"## {title}"]
        single = [part for part in parts if "rows" not in part]
        for part in parts:
            if "rows" in part:
                rest = {name: value for name, value in part.items() if name not in ("heading", "name", "rows")}
                lines += ["", f"**{part['name']}** ({_facts(rest)})", "", *_table(part["rows"])]
        if single:
            lines += ["", *_table([{k: v for k, v in part.items() if k != "heading"} for part in single])]
    return "\n".join(lines) + "\n"


def _facts(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_cell(name, value)}" for name, value in values.items())


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(columns)} |", f"|---{'|---:' * (len(columns) - 1)}|"]
    return lines + [f"| {' | '.join(_cell(name, row.get(name, '')) for name in columns)} |" for row in rows]


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value).replace("|", "/")
    return f"{value:.1%}" if name == "MFU" else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
