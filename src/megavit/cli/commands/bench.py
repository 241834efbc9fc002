"""The command `megavit bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from megavit.cli.options import Device, Json

if TYPE_CHECKING:
    from megavit.bench.case import Case


def bench(
    *models: str,
    quick: bool = False,
    device: Device = "auto",
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Benchmark MegaVit on this machine against timm, vit-pytorch, transformers and others.

    Times inference and training steps of randomly initialized models of all
    libraries that are installed. The contenders take turns, so the ratios hold
    on a busy machine too. Default models: example, S and B; with --quick
    example and S.

    Args:
        models: Model presets such as S and B, or example: 6 layers of width 512.
        quick: Run the short comparisons only: under two minutes.
        out: New .json file for the measurements.
    """
    import os
    from json import dumps

    # PyTorch's profiler, which measures memory, would log to standard error; set before PyTorch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")

    from megavit.bench.instructions import describe_limits
    from megavit.bench.run import EXAMPLE, describe_machine, get_config, run_cases
    from megavit.cli.console import notes, print_json
    from megavit.errors import OutputError
    from megavit.runtime.device import pick_device
    from megavit.runtime.storage import write_file, writing

    if out is not None and out.exists():
        raise OutputError(f"{out} already exists: choose another --out")
    names = models or ((EXAMPLE, "S") if quick else (EXAMPLE, "S", "B"))
    for name in names:
        get_config(name)
    torch_device = pick_device(device)
    measurements: dict[str, Any] = describe_machine(torch_device) | {"cases": []}

    def save() -> None:
        if out is not None:
            with writing("the measurements", out):
                write_file(out, dumps(measurements, indent=1) + "\n")

    save()  # fails early if the file cannot be written
    if "limits" in measurements:
        notes.print(describe_limits(measurements["limits"]), style="yellow")
    for case in run_cases(names, torch_device, quick=quick, announce=lambda text: notes.print(text, style="dim")):
        measurements["cases"].append(case.to_dict())
        save()
        if not json:
            show(case)
    if json:
        print_json(measurements)


def show(case: "Case") -> None:
    from megavit.cli.console import print_table, results

    columns = ["", "milliseconds", "±", "images/s", "of peak matmul", "MegaVit's speedup"]
    with_memory = any(entry.memory is not None for entry in case.entries)
    rows = [
        [
            entry.name,
            f"{entry.seconds * 1e3:.1f}",
            f"{entry.relative_iqr / 2:.0%}",
            f"{entry.images_per_second:.1f}",
            "-" if entry.matmul_share is None else f"{entry.matmul_share:.0%}",
            f"{entry.megavit_speedup:.2f}",
            *([f"{(entry.memory or 0) / 2**20:,.0f} MiB"] if with_memory else []),
        ]
        for entry in case.entries
    ]
    if rows:
        print_table(case.title, [*columns, *(["memory"] if with_memory else [])], rows)
    if case.note:
        results.print(f"{case.title}: {case.note}")
