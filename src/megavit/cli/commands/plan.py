"""`megavit plan`."""

from typing import Annotated

from cyclopts import Parameter

from megavit.cli.options import GLOBAL_BATCH_SIZE, PATCH_SIZE, Json
from megavit.config.recipe import OptimizerKind
from megavit.plan.parallel_layout import Precision


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
    precision: Annotated[Precision, Parameter(help="Numeric precision of the matrix products.")] = "bfloat16",
    optimizer: Annotated[OptimizerKind, Parameter(help="Optimizer.")] = "muon",
    gpu_memory: Annotated[float | None, Parameter(help="Memory per GPU in GiB. Default: that of --gpu.")] = None,
    tflops: Annotated[
        float | None, Parameter(help="Peak dense bfloat16 TFLOP/s per GPU. Default: that of --gpu.")
    ] = None,
    memory_bandwidth: Annotated[
        float | None, Parameter(help="Memory bandwidth per GPU in GB/s. Default: that of --gpu.")
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
    from megavit.cli.console import notes, print_json
    from megavit.cli.render.plan import plan_to_dict, show_plan, show_trace
    from megavit.config.presets import preset
    from megavit.plan.hardware import changed, gpu_of
    from megavit.plan.parallel_layout import Training
    from megavit.plan.plan import make_plan, why_not
    from megavit.plan.trace.validate import checked

    config = preset(model, num_classes=num_classes, image_size=image_size, patch_size=patch_size)
    device = changed(
        gpu_of(gpu),
        memory=gpu_memory,
        tflops=tflops,
        bandwidth=memory_bandwidth,
        node=gpus_per_node,
        link=link_bandwidth,
        network=network_bandwidth,
    )
    training = Training(batch=batch_size, precision=precision, optimizer=optimizer, processor=device.processor)
    made = make_plan(config, training, device, gpus)
    traced = None
    if trace and made.fitting:
        traced = checked(made.config, made.training, made.fitting[0].layout).to_dict()
    if json:
        print_json(plan_to_dict(model, made, total_images) | ({} if traced is None else {"trace": traced}))
    else:
        show_plan(model, made, total_images)
        if traced is not None:
            show_trace(traced)
        if not made.fitting:
            notes.print(f"megavit: {why_not(made)}", style="yellow")
    return 0 if made.fitting and (traced is None or traced["agrees"]) else 1
