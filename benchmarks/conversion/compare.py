"""A peer's model beside what megavit reads from its file: exact, refused with a sentence, or wrong."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from megavit.errors import MegavitError
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.to_bundle import build_model

EXACT, REFUSED, WRONG = "exact", "refused", "wrong"
TOLERANCE = 1e-4
MAX_MESSAGE_LENGTH = 200  # longer messages are truncated in the table


@dataclass(frozen=True)
class Row:
    """What became of one model: `difference` is the largest, relative to the largest of their numbers."""

    name: str
    verdict: str
    difference: float | None
    reported: str


def perturb_weights(model: nn.Module, seed: int = 0) -> Any:
    """Return the model in evaluation mode, every parameter and buffer of statistics away from its initial value."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def compare_file(
    name: str, path: Path, theirs: Callable[[Tensor], Tensor], ours: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> Row:
    """Return the row of the file or folder at `path`.

    Args:
        name: of the row.
        path: of what is read.
        theirs: images (N, C, H, W) to what the peer answers.
        ours: the same of the model that was read; its logits by default.
    """
    try:
        source = load_pretrained(str(path))
        model = build_model(source)
    except MegavitError as error:
        reported = " ".join(str(error).replace(f"{path}/", "").replace(f"{path.parent}/", "").split())
        return Row(name, REFUSED, None, reported)
    torch.manual_seed(0)
    images = torch.randn(2, source.config.channels, *source.config.image_hw)
    with torch.no_grad():
        expected, actual = theirs(images), ours(model, images) if ours else model(images)
    return _make_row(name, source, expected, actual)


def _make_row(name: str, source: PretrainedModel, expected: Tensor, actual: Tensor) -> Row:
    reported = "; ".join(source.notes)
    if expected.shape != actual.shape:
        return Row(name, WRONG, None, f"{tuple(actual.shape)} instead of {tuple(expected.shape)}; {reported}")
    difference = float((expected - actual).abs().max() / expected.abs().max().clamp(min=1))
    return Row(name, EXACT if difference < TOLERANCE else WRONG, difference, reported)


def write_report(rows: Sequence[Row], out: Path | None, title: str) -> None:
    """Write the table to standard output, and write it as `out`.json and `out`.md."""
    rows = [
        replace(
            row,
            reported=f"{row.reported[:MAX_MESSAGE_LENGTH]} …"
            if len(row.reported) > MAX_MESSAGE_LENGTH
            else row.reported,
        )
        for row in rows
    ]
    count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (EXACT, REFUSED, WRONG)}
    total = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    lines = [f"# {title}", "", total, "", "| model | verdict | difference | message |", "|---|---|---|---|"]
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:.0e}"
        lines.append(f"| {row.name} | {row.verdict} | {difference} | {row.reported.replace('|', '/')} |")
    sys.stdout.write("\n".join(lines) + "\n")
    if out is not None:
        out.with_suffix(".json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        out.with_suffix(".md").write_text("\n".join(lines) + "\n")
