"""Print the layouts of a training plan, or return them as a dictionary."""

from dataclasses import asdict
from typing import Any

from megavit.cli.console import print_table, results
from megavit.plan.hardware import GIB, LINK_SHARE
from megavit.plan.plan import LayoutEstimate, Plan, explain_misfit

MAX_SHOWN = 12


def plan_to_dict(model: str, plan: Plan, images: int | None) -> dict[str, Any]:
    """Return the plan as plain JSON types, with memory in bytes and times in seconds."""

    def describe(candidate: LayoutEstimate) -> dict[str, Any]:
        return candidate.to_dict() | {
            "communication": [asdict(exchange) for exchange in plan.compute_communication(candidate)],
            "padded": plan.find_padded_parameters(candidate),
            **({} if images is None else {"days": plan.estimate_days(candidate, images)}),
        }

    return {
        "model": model,
        "parameters": plan.parameters,
        "flops_per_step": plan.flops,
        "training": asdict(plan.training),
        "gpus": plan.gpus,
        "gpu": asdict(plan.gpu) | {"usable": plan.gpu.usable},
        "fitting": [describe(estimate) for estimate in plan.fitting],
        "too_large": [describe(estimate) for estimate in plan.too_large],
        "indivisible": [list(mesh) for mesh in plan.indivisible],
        **({} if plan.fitting else {"reason": explain_misfit(plan)}),
    }


def show_plan(model: str, plan: Plan, images: int | None) -> None:
    """Print which layouts fit and which do not, and details of the fastest one."""
    results.print(
        f"{model}: {plan.parameters:,} parameters, {plan.flops / 1e15:,.2f} PFLOP per step of {plan.training.batch:,} "
        f"images, on {plan.gpus:,} × {plan.gpu.name} with {plan.gpu.usable / GIB:.1f} usable GiB",
        style="bold",
    )
    if plan.fitting:
        days = [] if images is None else ["days"]
        columns = ["layout", "micro-batch", "recompute", "GiB", "step, s", "images/s", "MFU", *days]
        rows = [_row(plan, estimate, images) for estimate in plan.fitting[:MAX_SHOWN]]
        more = len(plan.fitting) - len(rows)
        _print_section(
            "Layouts that fit, fastest first" + (f" ({more} slower ones not shown)" if more else ""), columns, rows
        )
        _show_best(plan)
    if plan.too_large:
        rows = [
            [estimate.layout.name, f"{estimate.memory.total / GIB:,.1f}", estimate.phase, _largest(estimate)]
            for estimate in plan.too_large
        ][:MAX_SHOWN]
        _print_section(
            "Layouts that do not fit even with the smallest micro-batch",
            ["layout", "GiB", "peak", "largest parts"],
            rows,
        )
    if plan.indivisible:
        meshes = ", ".join("×".join(map(str, mesh)) for mesh in plan.indivisible[:MAX_SHOWN])
        results.print(f"\nthe batch size is not divisible over the layouts (replicate × FSDP × TP) {meshes}")
    results.print(
        f"\nAssumed: matrix products at {plan.gpu.achievable:.0%} of the peak; links at {LINK_SHARE:.0%} of theirs; "
        "FSDP communication overlaps with computation, tensor parallel communication does not; a tenth of the memory "
        "stays free. How it is computed and checked: docs/how-to/plan.md",
        style="dim",
    )


def _row(plan: Plan, estimate: LayoutEstimate, images: int | None) -> list[str]:
    times = f" × {estimate.layout.gradient_accumulation}" if estimate.layout.gradient_accumulation > 1 else ""
    return [
        estimate.layout.name,
        f"{estimate.layout.micro_batch_size}{times}",
        "blocks" if estimate.layout.gradient_checkpointing else "none",
        f"{estimate.memory.total / GIB:,.1f}",
        f"{estimate.step_time.step:,.3g}",
        f"{plan.training.batch / estimate.step_time.step:,.0f}",
        f"{estimate.step_time.mfu:.0%}",
        *([] if images is None else [f"{plan.estimate_days(estimate, images):,.1f}"]),
    ]


def _largest(estimate: LayoutEstimate) -> str:
    parts = sorted(estimate.memory.to_dict().items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {size / GIB:,.1f}" for name, size in parts)


def _show_best(plan: Plan) -> None:
    best = plan.fitting[0]
    rows = [[name, f"{size / GIB:,.2f}"] for name, size in best.memory.to_dict().items() if size]
    _print_section(f"{best.layout.name}: memory per GPU at its peak ({best.phase})", ["", "GiB"], rows)
    communication = plan.compute_communication(best)
    if communication:
        rows = [
            [
                f"{exchange.collective}, {exchange.axis}",
                exchange.phase,
                f"{exchange.calls:,}",
                f"{exchange.bytes / GIB:,.2f}",
            ]
            for exchange in communication
        ]
        _print_section(f"{best.layout.name}: communication per GPU and step", ["", "in", "calls", "GiB"], rows)
    seconds = best.step_time
    results.print(
        f"\nof {seconds.step:,.3g} s: compute {seconds.compute:,.3g}, exposed communication "
        f"{seconds.communication:,.3g}, optimizer {seconds.optimizer:,.3g}"
    )
    for name, factor in plan.find_padded_parameters(best).items():
        results.print(f"padding: {name} takes {factor:,.1f} times its size on {best.layout.shard:,} ranks")


def show_trace(traced: dict[str, Any]) -> None:
    rows = [
        [
            name,
            f"{both['formula'] / GIB:,.3f}",
            f"{both['traced'] / GIB:,.3f}",
            f"{both['formula'] / both['traced'] - 1:+.1%}",
        ]
        for name, both in {"memory": traced["memory"], **traced["communication"]}.items()
    ]
    _print_section(
        "The first layout, checked by tracing one rank with fake tensors", ["", "formula, GiB", "traced", ""], rows
    )
    if not traced["agrees"]:
        results.print("formula and trace differ by more than docs/how-to/plan.md allows", style="yellow")


def _print_section(title: str, columns: list[str], rows: list[list[str]]) -> None:
    results.print()
    print_table(title, columns, rows)
