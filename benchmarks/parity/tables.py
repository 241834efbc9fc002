"""The differences for people: as tables of every stage, and as a page's short one."""

from textwrap import wrap
from typing import Any

from benchmarks.parity.models import MODELS

STAGES = ("patches", "blocks", "norm", "pooled", "logits")
RESIZED = "vit_base_patch16_224"

Difference = dict[str, float]


def as_markdown(results: dict[str, Any]) -> str:
    """Two tables, of differences as "absolute (relative)"."""
    lines = [
        f"Largest differences in float32 on {describe_environment(results)}. Absolute (relative to the largest "
        "magnitude); of the blocks, the worst one.",
        "",
        f"| model | M parameters | image | {' | '.join(STAGES)} |",
        "|---|---|---|" + "---|" * len(STAGES),
    ]
    for name, row in ordered_rows(results).items():
        cells = [format_difference(row["stages"].get(stage)) for stage in STAGES]
        size = " × ".join(map(str, row["image"]))
        lines.append(f"| {name} | {row['parameters'] / 1e6:.1f} | {size} | {' | '.join(cells)} |")
    if results["sizes"]:
        lines += [
            "",
            f"Logits of timm's {RESIZED} at other sizes, positions resampled:",
            "",
            "| image | as timm runs | as timm loads |",
            "|---|---|---|",
        ]
        for size, row in results["sizes"].items():
            lines.append(
                f"| {size} | {format_difference(row['as it runs'])} | {format_difference(row['as it loads'])} |"
            )
    return "\n".join([*lines, ""])


def page_lines(results: dict[str, Any]) -> list[str]:
    """The lines of one table, of relative differences: the worst on the way, and that of the answer."""
    text = (
        "Real architectures at full size in float32, every weight shaken away from its initial value: the largest "
        "difference between their numbers and ours, relative to the largest of theirs, at the worst stage of the pass "
        "and in the answer. Sums taken in another order are some 1e-06 apart. Every stage is in "
        f"`benchmarks/results/parity.md`. {describe_environment(results)}."
    )
    lines = [
        *wrap(text, width=120, break_on_hyphens=False),
        "",
        "| model | M parameters | worst stage | answer |",
        "|---|---|---|---|",
    ]
    for name, row in ordered_rows(results).items():
        relative = [row["stages"][stage]["relative"] for stage in STAGES if stage in row["stages"]]
        lines.append(f"| {name} | {row['parameters'] / 1e6:.1f} | {max(relative):.0e} | {relative[-1]:.0e} |")
    if results["sizes"]:
        worst = max(found["relative"] for ways in results["sizes"].values() for found in ways.values())
        lines += ["", f"timm's {RESIZED} at {', '.join(results['sizes'])}, positions resampled: at most {worst:.0e}."]
    return lines


def ordered_rows(results: dict[str, Any]) -> dict[str, Any]:
    """In the order of `MODELS`."""
    return {name: results["models"][name] for name in MODELS if name in results["models"]}


def describe_environment(results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(results["versions"].items()))
    return f"{results['machine']}; {versions}"


def format_difference(found: Difference | None) -> str:
    return f"{found['absolute']:.1e} ({found['relative']:.0e})" if found else "–"
