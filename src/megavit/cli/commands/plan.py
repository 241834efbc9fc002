"""The command `megavit plan`."""

from megavit.cli.options import Json, PresetPatchSize
from megavit.config.recipe import OptimizerKind, ResolvedPrecision


def plan(
    model: str,
    /,
    *,
    gpus: int = 1,
    gpu: str = "h100",
    batch_size: int = 4096,
    total_images: int | None = None,
    image_size: int | None = None,
    patch_size: PresetPatchSize = None,
    num_classes: int = 1000,
    precision: ResolvedPrecision = "bfloat16",
    optimizer: OptimizerKind = "muon",
    gpu_memory: float | None = None,
    tflops: float | None = None,
    memory_bandwidth: float | None = None,
    gpus_per_node: int | None = None,
    link_bandwidth: float | None = None,
    network_bandwidth: float | None = None,
    trace: bool = False,
    json: Json = False,
) -> int:
    """Estimate the memory, communication and step time of a training on a GPU cluster.

    Evaluates formulas for every combination of data, sharded and tensor
    parallelism and lists the layouts that fit, the fastest first. The exit
    code is 1 if none fits.

    For example: megavit plan 22B --gpus 1024 --batch-size 65536 --optimizer adamw

    Args:
        model: Model preset, such as B, L or 22B.
        gpus: Total number of GPUs.
        gpu: Type of GPU: a100, h100, h200, b200, or cpu for this machine.
        batch_size: Images per optimizer step, over all processes.
        total_images: Images of the whole training (data set size × epochs), to estimate its days.
        image_size: Image size in pixels. Default: the preset's.
        num_classes: Number of classes.
        precision: Numeric precision of the matrix products.
        optimizer: Optimizer.
        gpu_memory: Memory per GPU in GiB. Default: that of --gpu.
        tflops: Peak dense bfloat16 TFLOP/s per GPU. Default: that of --gpu.
        memory_bandwidth: Memory bandwidth per GPU in GB/s. Default: that of --gpu.
        gpus_per_node: GPUs per node. Default: that of --gpu.
        link_bandwidth: One-way bandwidth between GPUs of a node in GB/s. Default: that of --gpu.
        network_bandwidth: One-way bandwidth per GPU to other nodes in GB/s. Default: that of --gpu.
        trace: Check the estimate of the best layout by tracing a step with fake tensors.
    """
    from megavit.cli.console import notes, print_json
    from megavit.cli.render.plan import plan_to_dict, show_plan, show_trace
    from megavit.config.presets import preset
    from megavit.plan.hardware import get_gpu, override_gpu
    from megavit.plan.parallel_layout import Training
    from megavit.plan.plan import explain_misfit, make_plan
    from megavit.plan.trace.validate import compare_with_trace

    config = preset(model, num_classes=num_classes, image_size=image_size, patch_size=patch_size)
    device = override_gpu(
        get_gpu(gpu),
        memory=gpu_memory,
        tflops=tflops,
        memory_bandwidth=memory_bandwidth,
        gpus_per_node=gpus_per_node,
        link_bandwidth=link_bandwidth,
        network_bandwidth=network_bandwidth,
    )
    training = Training(batch=batch_size, precision=precision, optimizer=optimizer, processor=device.processor)
    result = make_plan(config, training, device, gpus)
    traced = None
    if trace and result.fitting:
        traced = compare_with_trace(result.config, result.training, result.fitting[0].layout).to_dict()
    if json:
        print_json(plan_to_dict(model, result, total_images) | ({} if traced is None else {"trace": traced}))
    else:
        show_plan(model, result, total_images)
        if traced is not None:
            show_trace(traced)
        if not result.fitting:
            notes.print(f"megavit: {explain_misfit(result)}", style="yellow")
    return 0 if result.fitting and (traced is None or traced["agrees"]) else 1
