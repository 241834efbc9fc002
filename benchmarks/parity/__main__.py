"""How far other libraries' models and ours with their weights are apart, stage by stage, at full size.

    python -m benchmarks.parity                      # every model that is not in the table yet
    python -m benchmarks.parity --only "HF CLIP"     # those whose names hold one of the words

One image, random weights shaken away from their initial values, float32. "relative" is the largest difference over
the largest magnitude of the peer's own answer at that stage. Other sizes are those of a model made for 224 pixels,
against timm with positions resampled as it runs (`dynamic_img_size`) and as it loads (`img_size`). Written to
results/parity.json and results/parity.md after every model.
"""

import argparse
import gc
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from rich.console import Console
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from benchmarks.parity.models import MODELS
from benchmarks.parity.stages import FAMILIES, our_stages, ours_of, said, shaken, their_stages
from megavit.runtime.device import device_name
from megavit.runtime.storage import write_file

RESULTS = Path(__file__).parents[1] / "results"
STAGES = ("patches", "blocks", "norm", "pooled", "logits")
RESIZED = "vit_base_patch16_224"
SIZES = ((384, 384), (160, 320), (112, 240))

Difference = dict[str, float]


def difference(mine: Tensor, yours: Tensor) -> Difference:
    absolute = (mine - yours).abs().max().item()
    return {"absolute": absolute, "relative": absolute / yours.abs().max().item()}


def compare(family: str, theirs: nn.Module) -> dict[str, Any]:
    """Parameters, and the differences at each stage; of the blocks, that of the worst."""
    torch.manual_seed(0)
    theirs.eval()
    shaken(theirs, by=0.02)
    ours = ours_of(FAMILIES[family].peer, theirs)
    height, width = ours.config.image_hw
    size = said(FAMILIES[family].peer, theirs).get("image_size", (height, width))
    images = torch.randn(1, ours.config.channels, *size)
    # Theirs leave out what is no whole patch.
    mine, yours = our_stages(ours, images[:, :, :height, :width]), their_stages(FAMILIES[family], theirs, images)
    found: dict[str, Difference] = {}
    for stage, tensor in yours.items():
        name = "blocks" if stage.startswith("block ") else stage
        now = difference(mine[stage], tensor)
        found[name] = {key: max(value, found.get(name, now)[key]) for key, value in now.items()}
    return {
        "family": family,
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "image": list(ours.config.image_hw),
        "stages": found,
    }


@torch.no_grad()
def compare_sizes() -> dict[str, dict[str, Difference]]:
    """Of logits, at sizes that the model is not made for."""
    torch.manual_seed(0)
    theirs = timm.create_model(RESIZED, pretrained=False, dynamic_img_size=True).eval()
    shaken(theirs, by=0.02)
    ours = ours_of(FAMILIES["timm ViT"].peer, theirs)
    found = {}
    for size in SIZES:
        images = torch.randn(1, 3, *size)
        found["{} × {}".format(*size)] = {
            "as it runs": difference(ours(images), theirs(images)),
            "as it loads": difference(ours(images), loaded_at(size, theirs)(images)),
        }
    return found


def loaded_at(size: tuple[int, int], theirs: nn.Module) -> nn.Module:
    """timm's model made for images of `size`, with the weights as timm's loader changes them."""
    model: Any = timm.create_model(RESIZED, pretrained=False, img_size=size).eval()
    model.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), model))
    return model


def as_markdown(results: dict[str, Any]) -> str:
    """Two tables, of differences as "absolute (relative)"."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines = [
        f"Largest differences in float32 on {results['machine']}; {versions}. Absolute (relative to the largest "
        "magnitude); of the blocks, the worst one.",
        "",
        f"| model | M parameters | image | {' | '.join(STAGES)} |",
        "|---|---|---|" + "---|" * len(STAGES),
    ]
    for name in [name for name in MODELS if name in results["models"]]:
        row = results["models"][name]
        cells = [cell(row["stages"].get(stage)) for stage in STAGES]
        size = " × ".join(map(str, row["image"]))
        lines.append(f"| {name} | {row['parameters'] / 1e6:.1f} | {size} | {' | '.join(cells)} |")
    if results["sizes"]:
        lines += [
            "",
            f"Logits of timm's {RESIZED} at other sizes, positions resampled:",
            "",
            "| image | as timm runs | as timm loads |",
            "|---|---|---|",
        ]
        for size, row in results["sizes"].items():
            lines.append(f"| {size} | {cell(row['as it runs'])} | {cell(row['as it loads'])} |")
    return "\n".join([*lines, ""])


def cell(found: Difference | None) -> str:
    return f"{found['absolute']:.1e} ({found['relative']:.0e})" if found else "–"


def read_results() -> dict[str, Any]:
    path = RESULTS / "parity.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    versions = {name: version(name) for name in ("torch", "timm", "transformers")}
    return {"machine": device_name(torch.device("cpu")), "versions": versions, "models": {}, "sizes": {}}


def write_results(results: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_file(RESULTS / "parity.json", json.dumps(results, indent=1, allow_nan=False, sort_keys=True) + "\n")
    write_file(RESULTS / "parity.md", as_markdown(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models whose names hold one of these; sizes too")
    only = parser.parse_args().only
    console, results = Console(), read_results()
    for name, (family, build) in MODELS.items():
        if name in results["models"] or (only and not any(word in name for word in only)):
            continue
        results["models"][name] = compare(family, build())
        gc.collect()  # the largest are a few GiB
        write_results(results)
        stages = {stage: cell(found) for stage, found in results["models"][name]["stages"].items()}
        console.print(name, stages)
    if not results["sizes"] and (not only or "sizes" in only):
        results["sizes"] = compare_sizes()
        write_results(results)
        console.print(results["sizes"])


if __name__ == "__main__":
    main()
