"""Print the findings of a check, or all of them as JSON."""

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megavit.cli.console import notes, print_json, print_table, results, show_notes
from megavit.config.names import printable
from megavit.data_check.check import CheckResult
from megavit.data_check.finding import KINDS, Finding, Kind, Severity

MAX_SHOWN = 3
_STYLES: dict[Severity, str] = {"serious": "red", "warning": "yellow", "info": "dim"}


def show_check(result: CheckResult) -> None:
    """Print the kinds, the most serious first, with their first findings."""
    images, shapes = result.images, result.shapes
    sizes = ", ".join(f"{count:,} {split}" for split, count in images.split_sizes().items() if count)
    results.print(f"{len(images.samples):,} images: {sizes} ({printable(images.split_description)})", style="bold")
    results.print(
        f"{_format_range(shapes.width)} × {_format_range(shapes.height)} pixels; channels: "
        + ", ".join(f"{channels} in {count:,}" for channels, count in shapes.channels.items())
    )
    review = result.label_review
    if review:
        results.print(
            f"labels compared with {review.model}, which agrees with {review.agreement:.1%} of {review.images:,}"
        )
        if review.is_weak:
            notes.print("that is hardly better than guessing: no label errors are reported", style="yellow")
    show_notes(images.notes)
    by_kind: dict[Kind, list[Finding]] = defaultdict(list)
    for finding in result.findings:
        by_kind[finding.kind].append(finding)
    if by_kind:
        print_table(
            "",
            ["finding", "severity", "count"],
            [[KINDS[kind].title, KINDS[kind].severity, f"{len(findings):,}"] for kind, findings in by_kind.items()],
        )
    for kind, findings in by_kind.items():
        info = KINDS[kind]
        results.print(f"\n{info.title.capitalize()}. {info.advice}", style=_STYLES[info.severity])
        for finding in findings[:MAX_SHOWN]:
            results.print(f"  {_describe(finding)}")
        if len(findings) > MAX_SHOWN:
            results.print(f"  … and {len(findings) - MAX_SHOWN:,} more")
    results.print()
    if result.skip_reason:
        notes.print(f"label errors were not checked: {result.skip_reason}", style="dim")
    serious = sum(finding.severity == "serious" for finding in result.findings)
    if serious:
        results.print(f"{serious:,} serious of {len(result.findings):,} findings", style="bold")
    else:
        results.print("nothing serious was found", style="bold")


def print_check(result: CheckResult, out: Path | None) -> None:
    """Print all findings as one JSON object."""
    images, review = result.images, result.label_review
    labels: dict[str, Any] = {"checked": review is not None, "reason": result.skip_reason or None}
    if review is not None:
        labels |= {
            "model": review.model,
            "images": review.images,
            "agreement": review.agreement,
            "is_weak": review.is_weak,
        }
    print_json(
        {
            "source": images.source,
            "target": images.target,
            "images": len(images.samples),
            "splits": images.split_sizes(),
            "division": images.split_description,
            "notes": list(images.notes),
            "counts": images.class_counts(),
            "shapes": asdict(result.shapes),
            "labels": labels,
            "serious": result.is_serious,
            "findings": [finding.to_dict() for finding in result.findings],
            "out": None if out is None else str(out),
        }
    )


def _describe(finding: Finding) -> str:
    names = "  ".join(finding.images[:2]) + (f"  and {len(finding.images) - 2:,} more" * (len(finding.images) > 2))
    return printable(f"{names}: {finding.message}" if names else finding.message)


def _format_range(sides: tuple[int, int, int]) -> str:
    minimum, _, maximum = sides
    return f"{minimum}" if minimum == maximum else f"{minimum} to {maximum}"
