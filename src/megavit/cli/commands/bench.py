"""`megavit bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from megavit.bench.case import Case


def bench(
    *models: Annotated[str, Parameter(help="Presets such as S and B, or example, the documentation's own sizes.")],
    quick: Annotated[bool, Parameter(help="The short comparisons alone, in under two minutes.", negative="")] = False,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    output: Annotated[Path | None, Parameter(help="New .json file for the figures.")] = None,
    json: Annotated[bool, Parameter(help="Print the figures as JSON.", negative="")] = False,
) -> None:
    """Time MegaVit on this machine beside the peers that are installed: timm, vit-pytorch, transformers, ...

    Inference and training steps on random weights, which compute as long as
    any: all contenders take turns, so that the ratios hold on a busy machine
    too. Without models: example, S and B; example and S with --quick.
    """
    import os
    from json import dumps

    # PyTorch's profiler, which measures memory, tells when it begins and ends; to be said before PyTorch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")

    from megavit.bench.run import EXAMPLE, about, cases, config_of
    from megavit.cli.console import notes, print_json
    from megavit.errors import OutputError
    from megavit.runtime.device import pick_device
    from megavit.runtime.storage import write_file, writing

    if output is not None and output.exists():
        raise OutputError(f"{output} is there already; choose another --output")
    names = models or ((EXAMPLE, "S") if quick else (EXAMPLE, "S", "B"))
    for name in names:
        config_of(name)
    chosen = pick_device(device)
    figures: dict[str, Any] = about(chosen) | {"cases": []}

    def keep() -> None:
        if output is not None:
            with writing("the figures", output):
                write_file(output, dumps(figures, indent=1) + "\n")

    keep()  # before anything is timed, so that a folder that takes no file is told at once
    for case in cases(names, chosen, quick, lambda what: notes.print(what, style="dim")):
        figures["cases"].append(case.to_dict())
        keep()
        if not json:
            show(case)
    if json:
        print_json(figures)


def show(case: "Case") -> None:
    from megavit.cli.console import print_table, results

    columns = ["", "milliseconds", "±", "images/s", "of a matrix product", "megavit is so many times as fast"]
    with_memory = any(entry.memory is not None for entry in case.entries)
    rows = [
        [
            entry.name,
            f"{entry.seconds * 1e3:.1f}",
            f"{entry.spread / 2:.0%}",
            f"{entry.images_per_second:.1f}",
            "-" if entry.of_matmul is None else f"{entry.of_matmul:.0%}",
            f"{entry.megavit_is:.2f}",
            *([f"{(entry.memory or 0) / 2**20:,.0f} MiB"] if with_memory else []),
        ]
        for entry in case.entries
    ]
    if rows:
        print_table(case.title, [*columns, *(["memory"] if with_memory else [])], rows)
    if case.note:
        results.print(f"{case.title}: {case.note}")
