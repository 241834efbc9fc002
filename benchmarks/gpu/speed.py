"""How fast a device multiplies, trains, predicts, and is fed."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu.float8 import E4M3, scaled, use_float8
from benchmarks.gpu.trainer import Trainer, make_batch, make_trainer
from megavit.config.presets import preset
from megavit.config.vit import ViTConfig
from megavit.model.statistics import forward_flops, training_flops
from megavit.model.vit import MegaVit
from megavit.runtime.device import peak_flops, synchronize
from megavit.training.loop.prefetch import prefetch

EAGER, COMPILED, FLOAT8 = "eager", "compiled", "compiled, float8"
GRAPH, PEER = "CUDA graph", "timm compiled"


@dataclass(frozen=True)
class Size:
    """A model, and the largest batch of a training step that is tried."""

    name: str
    config: ViTConfig
    batch: int


def sizes(device: torch.device) -> list[Size]:
    """Return S/16, B/16, L/16 and H/14 for a GPU, and two tiny ones for a CPU."""
    if device.type == "cpu":
        return [Size("pico", preset("pico"), 16), Size("nano", preset("nano"), 4)]
    batches = {"S": 1024, "B": 512, "L": 256, "H": 128}
    return [Size(f"{name}/{preset(name).patch_size}", preset(name), batch) for name, batch in batches.items()]


def training_modes(device: torch.device) -> tuple[str, ...]:
    return (EAGER,) if device.type == "cpu" else (COMPILED, EAGER, FLOAT8, PEER)


def inference_modes(device: torch.device) -> tuple[str, ...]:
    return (EAGER,) if device.type == "cpu" else (EAGER, COMPILED, GRAPH)


def time_seconds(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the median seconds of a run, and those of the first, which may compile."""
    rounds, budget = (3, 0.2) if device.type == "cpu" else (30, 3.0)
    durations, until = [], float("inf")
    for number in range(rounds + 2):
        began = time.perf_counter()
        run()
        synchronize(device)
        durations.append(time.perf_counter() - began)
        if number == 1:
            until = time.perf_counter() + budget
        if number > 3 and time.perf_counter() > until:
            break
    return statistics.median(durations[2:]), durations[0]


def measure_products(device: torch.device) -> dict[str, Any]:
    """Return the FLOP/s of a large matrix product in each data type."""
    side = 256 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    low = [x.bfloat16() for x in (a, b)]
    runs: dict[str, Callable[[], object]] = {
        "float32": lambda: F.linear(a, b),
        "bfloat16": lambda: F.linear(*low),
    }
    (a8, a_scale), (b8, b_scale) = scaled(a, E4M3), scaled(b, E4M3)
    runs["float8"] = lambda: torch._scaled_mm(a8, b8.t(), scale_a=a_scale, scale_b=b_scale, out_dtype=torch.bfloat16)
    rows = []
    for name, run in runs.items():
        try:
            seconds, _ = time_seconds(run, device)
            rows.append({"precision": name, "TFLOP/s": 2 * side**3 / seconds / 1e12})
        except RuntimeError as error:
            rows.append({"precision": name, "not here": str(error).splitlines()[0]})
    return {"side": side, "rows": rows}


def measure_training(size: Size, mode: str, device: torch.device) -> dict[str, Any]:
    """Return the speed of training steps in bfloat16, with batches halved until they fit the memory."""
    if mode == PEER and find_spec("timm") is None:
        return {"skipped": "timm is not installed"}
    batch = size.batch
    while True:
        try:
            return _measure_steps(size, mode, device, batch)
        except torch.OutOfMemoryError:
            batch //= 2
            if batch < 8:
                raise
        finally:
            if device.type != "cpu":
                torch._dynamo.reset()
                torch.accelerator.empty_cache()


def _measure_steps(size: Size, mode: str, device: torch.device, batch: int) -> dict[str, Any]:
    if device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(device)
    trainer = make_trainer(size.config, device, dtype=torch.bfloat16)
    if mode == FLOAT8:
        use_float8(trainer.model)
    if mode in (COMPILED, FLOAT8):
        for layer in trainer.model.transformer.layers:
            layer.compile()
    images, labels = make_batch(size.config, batch, device)
    losses: list[float] = []
    run = (
        make_peer_step(size.config, device, images, labels)
        if mode == PEER
        else (lambda: losses.append(trainer.step(images, labels)))
    )
    seconds, first = time_seconds(run, device)
    result = {"batch": batch, "ms": seconds * 1e3, "images/s": batch / seconds, "first step, s": first}
    rate = training_flops(size.config, all_tokens=False) * batch / seconds
    result["TFLOP/s"] = rate / 1e12
    if (peak := peak_flops(device, "bfloat16")) is not None:
        result["MFU"] = rate / peak
    if losses:
        result["update, ms"] = time_seconds(trainer.update, device)[0] * 1e3
        result |= {"first loss": losses[0], "last loss": losses[-1], "ok": losses[-1] < losses[0]}
    if device.type != "cpu":
        result["GiB"] = torch.accelerator.max_memory_allocated(device) / 2**30
    return result


def make_peer_step(config: ViTConfig, device: torch.device, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a step of timm's model of the same size, compiled, with fused AdamW."""
    from timm.models.vision_transformer import VisionTransformer  # only if it is installed

    model: nn.Module = VisionTransformer(
        img_size=config.image_hw[0],
        patch_size=config.patch_hw[0],
        embed_dim=config.dim,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_dim / config.dim,
        num_classes=config.num_classes,
    ).to(device)
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            logits = compiled((images.float() / 255 - 0.5) / 0.5)
        F.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def measure_inference(size: Size, mode: str, device: torch.device) -> dict[str, Any]:
    """Return the speed of forward passes in bfloat16, from images on the device, by batch."""
    model = MegaVit.from_config(size.config).to(device, torch.bfloat16).eval()
    if mode == COMPILED:
        for layer in model.transformer.layers:
            layer.compile()
    rows = []
    try:
        for batch in (1, 4) if device.type == "cpu" else (1, 4, 16, 64, 256):
            images = torch.randn(
                batch, size.config.channels, *size.config.image_hw, device=device, dtype=torch.bfloat16
            )
            with torch.inference_mode():
                run = capture(model, images) if mode == GRAPH else (lambda images=images: model(images))
                seconds, _ = time_seconds(run, device)
            row = {"batch": batch, "ms": seconds * 1e3, "images/s": batch / seconds}
            if (peak := peak_flops(device, "bfloat16")) is not None:
                row["MFU"] = forward_flops(size.config, all_tokens=False) * batch / seconds / peak
            rows.append(row)
    finally:
        if mode == COMPILED:
            torch._dynamo.reset()
    return {"rows": rows}


def capture(model: MegaVit, images: Tensor) -> Callable[[], None]:
    """Return the replay of a CUDA graph of the forward pass."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # kernels are chosen and memory is allocated before the capture
        for _ in range(3):
            model(images)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(images)
    return graph.replay


def measure_input(device: torch.device) -> dict[str, Any]:
    """Return what it costs to take each batch from uint8 images in main memory, with the next one read ahead."""
    size = sizes(device)[0]
    batch, steps = size.batch, 4 if device.type == "cpu" else 12
    images, labels = make_batch(size.config, 2 * batch, torch.device("cpu"))
    order = [torch.randint(0, 2 * batch, (batch,)) for _ in range(steps)]
    began = time.perf_counter()
    for indices in order:
        images[indices]
    gather = (time.perf_counter() - began) / steps
    trainer = make_trainer(size.config, device, dtype=torch.bfloat16)
    resident = images[:batch].to(device), labels[:batch].to(device)
    trainer.step(*resident)
    on_device = _time_epoch(trainer, (resident for _ in order), device) / steps
    batches = ((images[indices], labels[indices]) for indices in order)
    loaded = _time_epoch(trainer, prefetch(batches, device), device) / steps  # pyrefly: ignore
    return {
        "size": size.name,
        "batch": batch,
        "gathered images/s": batch / gather,
        "step from the device, ms": on_device * 1e3,
        "step from main memory, ms": loaded * 1e3,
        "ratio": loaded / on_device,
    }


def _time_epoch(trainer: Trainer, batches: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    for images, labels in batches:
        trainer.step(*(x.to(device, non_blocking=True) for x in (images, labels)))
    synchronize(device)
    return time.perf_counter() - began
