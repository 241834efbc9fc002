"""`megavit plan`."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from megavit.cli.options import GLOBAL_BATCH_SIZE, PATCH_SIZE, Json
from megavit.config.recipe import OptimizerKind, ResolvedPrecision

if TYPE_CHECKING:
    from megavit.plan.plan import LayoutEstimate, Plan

SHOWN = 12


def plan(
    model: Annotated[str, Parameter(help="Model preset, such as B, L or 22B.")],
    /,
    *,
    gpus: Annotated[int, Parameter(help="Total number of GPUs.")] = 1,
    gpu: Annotated[str, Parameter(help="Type of GPU: a100, h100, h200, b200, or cpu for this machine.")] = "h100",
    batch_size: Annotated[int, Parameter(help=GLOBAL_BATCH_SIZE)] = 4096,
    total_images: Annotated[
        int | None, Parameter(help="Images of the whole training (data set size × epochs), to estimate its days.")
    ] = None,
    image_size: Annotated[int | None, Parameter(help="Image size in pixels. Default: the preset's.")] = None,
    patch_size: Annotated[int | None, Parameter(help=PATCH_SIZE)] = None,
    num_classes: Annotated[int, Parameter(help="Number of classes.")] = 1000,
    precision: Annotated[ResolvedPrecision, Parameter(help="Numeric precision of the matrix products.")] = "bfloat16",
    optimizer: Annotated[OptimizerKind, Parameter(help="Optimizer.")] = "muon",
    gpu_memory: Annotated[float | None, Parameter(help="MemoryUse per GPU in GiB. Default: that of --gpu.")] = None,
    tflops: Annotated[
        float | None, Parameter(help="Peak dense bfloat16 TFLOP/s per GPU. Default: that of --gpu.")
    ] = None,
    memory_bandwidth: Annotated[
        float | None, Parameter(help="MemoryUse bandwidth per GPU in GB/s. Default: that of --gpu.")
    ] = None,
    gpus_per_node: Annotated[int | None, Parameter(help="GPUs per node. Default: that of --gpu.")] = None,
    link_bandwidth: Annotated[
        float | None, Parameter(help="One-way bandwidth between GPUs of a node in GB/s. Default: that of --gpu.")
    ] = None,
    network_bandwidth: Annotated[
        float | None, Parameter(help="One-way bandwidth per GPU to other nodes in GB/s. Default: that of --gpu.")
    ] = None,
    trace: Annotated[
        bool, Parameter(help="Check the estimate of the best layout by tracing a step with fake tensors.")
    ] = False,
    json: Json = False,
) -> int:
    """Estimate the memory, communication and step time of a training on a GPU cluster.

    Evaluates formulas for every combination of data, sharded and tensor
    parallelism and lists the layouts that fit, the fastest first. The exit
    code is 1 if none fits.

    For example: megavit plan 22B --gpus 1024 --batch-size 65536 --optimizer adamw
    """
    from megavit.cli.console import print_json
    from megavit.config.presets import preset
    from megavit.plan.hardware import get_gpu, override_gpu
    from megavit.plan.parallel_layout import Training
    from megavit.plan.plan import explain_misfit, make_plan

    config = preset(model, num_classes=num_classes, image_size=image_size, patch_size=patch_size)
    device = override_gpu(
        get_gpu(gpu),
        memory=gpu_memory,
        tflops=tflops,
        bandwidth=memory_bandwidth,
        gpus_per_node=gpus_per_node,
        link_bandwidth=link_bandwidth,
        network_bandwidth=network_bandwidth,
    )
    training = Training(batch=batch_size, precision=precision, optimizer=optimizer, processor=device.processor)
    made = make_plan(config, training, device, gpus)
    traced = traced_of(made) if trace and made.fitting else None
    if json:
        print_json(to_dict(model, made, total_images) | ({} if traced is None else {"trace": traced}))
    else:
        show(model, made, total_images)
        if traced is not None:
            show_check(traced)
    if not made.fitting and not json:
        from megavit.cli.console import notes

        notes.print(f"megavit: {explain_misfit(made)}", style="yellow")
    return 0 if made.fitting and (traced is None or traced["agrees"]) else 1


def to_dict(model: str, made: "Plan", images: int | None) -> dict[str, Any]:
    """Everything, for machines; memory in bytes."""
    from dataclasses import asdict

    from megavit.plan.plan import explain_misfit

    def of(candidate: "LayoutEstimate") -> dict[str, Any]:
        return candidate.to_dict() | {
            "communication": [asdict(one) for one in made.compute_communication(candidate)],
            "padded": made.find_padded_parameters(candidate),
            **({} if images is None else {"days": made.estimate_days(candidate, images)}),
        }

    return {
        "model": model,
        "parameters": made.parameters,
        "flops_per_step": made.flops,
        "training": asdict(made.training),
        "gpus": made.gpus,
        "gpu": asdict(made.gpu) | {"usable": made.gpu.usable},
        "fitting": [of(one) for one in made.fitting],
        "too_large": [of(one) for one in made.too_large],
        "indivisible": [list(grid) for grid in made.indivisible],
        **({} if made.fitting else {"reason": explain_misfit(made)}),
    }


def show(model: str, made: "Plan", images: int | None) -> None:
    """Tables for people."""
    from megavit.cli.console import print_table, results
    from megavit.plan.hardware import GIB, LINK_SHARE

    results.print(
        f"{model}: {made.parameters:,} parameters, {made.flops / 1e15:,.2f} PFLOP a step of {made.training.batch:,} "
        f"images, on {made.gpus:,} × {made.gpu.name} with {made.gpu.usable / GIB:.1f} GiB to use",
        style="bold",
    )
    if made.fitting:
        days = [] if images is None else ["days"]
        columns = ["layout", "micro-batch", "recompute", "GiB", "step, s", "images/s", "MFU", *days]
        rows = [_row(made, one, images) for one in made.fitting[:SHOWN]]
        more = len(made.fitting) - len(rows)
        print_table(
            "\nwhat fits, the fastest first" + (f" ({more} slower ones left out)" if more else ""), columns, rows
        )
        _show_best(made)
    if made.too_large:
        rows = [
            [one.layout.name, f"{one.memory.total / GIB:,.1f}", one.phase, _largest(one)] for one in made.too_large
        ][:SHOWN]
        print_table(
            "\nwhat does not fit, with as few images at once as can be", ["layout", "GiB", "when", "most of it"], rows
        )
    if made.indivisible:
        grids = ", ".join("×".join(map(str, grid)) for grid in made.indivisible[:SHOWN])
        results.print(f"\nthe batch does not divide over replicate×shard×tensor = {grids}")
    results.print(
        f"\nAssumed: products of matrices at {made.gpu.achievable:.0%} of the peak; links at {LINK_SHARE:.0%} of "
        "theirs; weights and gradients travel while a block computes, sums within layers are waited for; a tenth of "
        "the memory stays free. How it is computed and checked: docs/how-to/plan.md",
        style="dim",
    )


def _row(made: "Plan", one: "LayoutEstimate", images: int | None) -> list[str]:
    from megavit.plan.hardware import GIB

    times = f" × {one.layout.gradient_accumulation}" if one.layout.gradient_accumulation > 1 else ""
    return [
        one.layout.name,
        f"{one.layout.micro_batch_size}{times}",
        "blocks" if one.layout.gradient_checkpointing else "none",
        f"{one.memory.total / GIB:,.1f}",
        f"{one.step_time.step:,.3g}",
        f"{made.training.batch / one.step_time.step:,.0f}",
        f"{one.step_time.mfu:.0%}",
        *([] if images is None else [f"{made.estimate_days(one, images):,.1f}"]),
    ]


def _largest(one: "LayoutEstimate") -> str:
    from megavit.plan.hardware import GIB

    parts = sorted(one.memory.to_dict().items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {size / GIB:,.1f}" for name, size in parts)


def _show_best(made: "Plan") -> None:
    from megavit.cli.console import print_table, results
    from megavit.plan.hardware import GIB

    best = made.fitting[0]
    rows = [[name, f"{size / GIB:,.2f}"] for name, size in best.memory.to_dict().items() if size]
    print_table(
        f"\n{best.layout.name}: memory of a GPU when it is compute_peak_memory ({best.phase})", ["", "GiB"], rows
    )
    sent = made.compute_communication(best)
    if sent:
        rows = [
            [f"{one.collective}, {one.axis}", one.phase, f"{one.calls:,}", f"{one.bytes / GIB:,.2f}"] for one in sent
        ]
        print_table(
            f"\n{best.layout.name}: what a GPU compute_communication in a step", ["", "in", "calls", "GiB"], rows
        )
    seconds = best.step_time
    results.print(
        f"\nof {seconds.step:,.3g} s: compute {seconds.compute:,.3g}, communication {seconds.communication:,.3g}, "
        f"optimizer {seconds.optimizer:,.3g}"
    )
    for name, factor in made.find_padded_parameters(best).items():
        results.print(f"padding: {name} takes {factor:,.1f} times its size on {best.layout.shard:,} ranks")


def traced_of(made: "Plan") -> dict[str, Any]:
    """The best layout by formula and traced."""
    from megavit.plan.trace.validate import compare_with_trace

    best = made.fitting[0]
    return compare_with_trace(made.config, made.training, best.layout).to_dict()


def show_check(traced: dict[str, Any]) -> None:
    from megavit.cli.console import print_table, results
    from megavit.plan.hardware import GIB

    rows = [
        [
            name,
            f"{both['formula'] / GIB:,.3f}",
            f"{both['traced'] / GIB:,.3f}",
            f"{both['formula'] / both['traced'] - 1:+.1%}",
        ]
        for name, both in {"memory": traced["memory"], **traced["communication"]}.items()
    ]
    print_table("\nthe first, checked by tracing one rank with fake tensors", ["", "formula, GiB", "traced", ""], rows)
    if not traced["agrees"]:
        results.print("they differ by more than docs/how-to/plan.md allows", style="yellow")
