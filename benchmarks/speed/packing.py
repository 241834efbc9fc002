"""Images of different sizes: packed into one sequence, against padded, masked, and one by one.

    python benchmarks/speed/packing.py [--preset Ti] [--images 32] [--device cpu] [--precision float32] [--json FILE]

All ways compute with the same weights. "padded" is a batch of tokens filled up to the longest image, with a mask in
attention; "masked" is the packed sequence with one mask of all images against all; "one by one" is a plain forward
pass an image. The ways take turns; each ratio is the median over the repetitions. The mixes: "aspects" are shapes from
9:16 to 16:9 at about the patches of the preset's square, "sizes" also differ in area, down to a sixteenth.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS, preset
from megavit.model import attention
from megavit.model.packing import Packing
from megavit.model.vit import MegaVit
from megavit.runtime.device import device_name, pick_device

ASPECTS = (9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9)
AREAS = (1 / 16, 1 / 4, 1 / 2, 1.0)
Way = Callable[[MegaVit, list[Tensor]], Tensor]


def make_mixes(model: MegaVit, count: int, device: torch.device) -> dict[str, list[Tensor]]:
    """Noise of the shapes of each mix, every shape about equally often."""
    patch_hw = model.config.patch_hw

    def image(aspect: float, area: float) -> Tensor:
        rows, columns = (max(1, round(side * area**0.5)) for side in model.config.grid)
        size = Preprocessing(
            height=rows * patch_hw[0], width=columns * patch_hw[1], channels=3, keep_aspect=True, patch_size=patch_hw
        )
        return torch.randn(3, *size.size_for(1000, round(1000 * aspect)), device=device)

    return {
        "aspects": [image(ASPECTS[i % len(ASPECTS)], 1.0) for i in range(count)],
        "sizes": [image(ASPECTS[i % len(ASPECTS)], AREAS[i % len(AREAS)]) for i in range(count)],
    }


def packed(model: MegaVit, images: list[Tensor]) -> Tensor:
    return model(images)


def one_by_one(model: MegaVit, images: list[Tensor]) -> Tensor:
    return torch.cat([model(image[None]) for image in images])


def masked(model: MegaVit, images: list[Tensor]) -> Tensor:
    """One mask for the whole sequence, made once, in place of a length at a time."""
    masks: list[Tensor] = []

    def attend(query: Tensor, key: Tensor, value: Tensor, packing: Packing, _dropout: float = 0.0) -> Tensor:
        if not masks:
            lengths = packing.starts.diff()
            image = torch.arange(packing.num_images, device=query.device).repeat_interleave(lengths)
            masks.append(image[:, None] == image)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=masks[0])

    with patch.object(attention, "attend_packed", attend):
        return model(images)


def padded(model: MegaVit, images: list[Tensor]) -> Tensor:
    """For models with a class token and positions that are added, such as the presets Ti to e."""
    tokens = [model.embed(image[None], model.patch_embedding.grid(image[None]))[0][0] for image in images]
    x = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    lengths = torch.tensor([len(one) for one in tokens], device=x.device)
    mask = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[:, None, None]

    def attend(query: Tensor, key: Tensor, value: Tensor, _dropout: float = 0.0) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    with patch.object(attention, "attend", attend):
        return model.mlp_head(model.norm(model.transformer(x))[:, 0])


WAYS: dict[str, Way] = {"packed": packed, "padded": padded, "masked": masked, "one by one": one_by_one}


def time_forwards(
    model: MegaVit, images: list[Tensor], precision: str, repetitions: int, *, training: bool
) -> dict[str, list[float]]:
    """Seconds of each way, in turn, for a forward pass or a step without its optimizer."""
    device = images[0].device
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for repetition in range(repetitions + 1):
        for name, way in WAYS.items():
            model.zero_grad(set_to_none=True)
            wait(device)
            started = time.perf_counter()
            with (
                torch.set_grad_enabled(training),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"),
            ):
                logits = way(model, images)
            if training:
                logits.float().square().mean().backward()
            wait(device)
            if repetition:  # the first one is slower: kernels are chosen and memory is taken
                found[name].append(time.perf_counter() - started)
    return found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def largest_difference(model: MegaVit, images: list[Tensor]) -> dict[str, float]:
    """Of the logits of each way from those of one image at a time, in float32."""
    alone = one_by_one(model, images)
    return {name: (way(model, images) - alone).abs().max().item() for name, way in WAYS.items() if way != one_by_one}


def compare(model: MegaVit, images: list[Tensor], precision: str, repetitions: int) -> dict[str, object]:
    per_patch = model.config.patch_hw[0] * model.config.patch_hw[1]
    patches = [image[0].numel() // per_patch for image in images]
    result: dict[str, object] = {
        "images": len(images),
        "patches": {"least": min(patches), "mean": statistics.mean(patches), "most": max(patches)},
        "shapes": len({image.shape for image in images}),
        "largest_difference": largest_difference(model, images),
    }
    for mode, training in (("inference", False), ("step", True)):
        seconds = time_forwards(model.train(training), images, precision, repetitions, training=training)
        result[mode] = {
            name: {
                "images_per_second": len(images) / statistics.median(values),
                "packed_is_faster": statistics.median(
                    other / packed_seconds for other, packed_seconds in zip(values, seconds["packed"], strict=True)
                ),
            }
            for name, values in seconds.items()
        }
        model.eval()
    return result


def show(found: dict[str, dict]) -> None:
    table = Table("mix", "what", "way", "images/s", "packed is faster", "largest difference")
    for mix, result in found.items():
        for mode in ("inference", "step"):
            for way, row in result[mode].items():
                difference = result["largest_difference"].get(way)
                difference_text = "" if difference is None else f"{difference:.1e}"
                table.add_row(
                    mix, mode, way, f"{row['images_per_second']:.1f}", f"{row['packed_is_faster']:.2f}", difference_text
                )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="Ti", choices=[name for name, row in PRESETS.items() if row.pool == "cls"])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()

    device = pick_device(arguments.device)
    torch.manual_seed(0)
    model = MegaVit.from_config(preset(arguments.preset)).to(device).eval()
    found = {
        mix: compare(model, images, arguments.precision, arguments.repetitions)
        for mix, images in make_mixes(model, arguments.images, device).items()
    }
    show(found)
    if arguments.json is not None:
        facts = {
            "preset": arguments.preset,
            "precision": arguments.precision,
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        arguments.json.write_text(json.dumps(facts | {"mixes": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
