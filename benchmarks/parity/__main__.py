"""How far other libraries' models and ours with their weights are apart, stage by stage, at full size.

    python -m benchmarks.parity                      # every model that is not in the table yet
    python -m benchmarks.parity --only "HF CLIP"     # those whose names hold one of the words

One image, random weights shaken away from their initial values, float32. "relative" is the largest difference over
the largest magnitude of the peer's own answer at that stage. Other sizes are those of a model made for 224 pixels,
against timm with positions resampled as it runs (`dynamic_img_size`) and as it loads (`img_size`). Written after every
model: results/parity.json, results/parity.md and the table in docs/benchmarks.md.
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

from benchmarks.pages import page_with
from benchmarks.parity.models import MODELS
from benchmarks.parity.stages import FAMILIES, load_our_model, our_stages, peer_stages, perturb_weights
from benchmarks.parity.tables import RESIZED, Difference, as_markdown, format_difference, page_lines
from megavit.config.vit import pair
from megavit.runtime.device import device_name
from megavit.runtime.storage import write_file

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- parity: written by `python -m benchmarks.parity` -->", "<!-- end of parity -->"
LIBRARIES = ("torch", "timm", "transformers", "torchvision", "vit-pytorch", "open_clip_torch")
SIZES = ((384, 384), (160, 320), (112, 240))


def difference(actual: Tensor, expected: Tensor) -> Difference:
    absolute = (actual - expected).abs().max().item()
    return {"absolute": absolute, "relative": absolute / expected.abs().max().item()}


def compare(family: str, peer_model: nn.Module) -> dict[str, Any]:
    """Parameters, and the differences at each stage; of the blocks, that of the worst."""
    torch.manual_seed(0)
    peer_model.eval()
    perturb_weights(peer_model, scale=0.02)
    our_model = load_our_model(FAMILIES[family], peer_model)
    height, width = our_model.config.image_hw
    size = FAMILIES[family].file_settings(peer_model).get("image_size", (height, width))
    images = torch.randn(1, our_model.config.channels, *pair("image_size", size))
    # Their models drop incomplete patches.
    actual, expected = (
        our_stages(our_model, images[:, :, :height, :width]),
        peer_stages(FAMILIES[family], peer_model, images),
    )
    found: dict[str, Difference] = {}
    for stage, tensor in expected.items():
        name = "blocks" if stage.startswith("block ") else stage
        current = difference(actual[stage], tensor)
        found[name] = {key: max(value, found.get(name, current)[key]) for key, value in current.items()}
    return {
        "family": family,
        "parameters": sum(parameter.numel() for parameter in our_model.parameters()),
        "image": list(our_model.config.image_hw),
        "stages": found,
    }


@torch.no_grad()
def compare_sizes() -> dict[str, dict[str, Difference]]:
    """Of logits, at sizes that the model is not made for."""
    torch.manual_seed(0)
    peer_model = timm.create_model(RESIZED, pretrained=False, dynamic_img_size=True).eval()
    perturb_weights(peer_model, scale=0.02)
    our_model = load_our_model(FAMILIES["timm ViT"], peer_model)
    found = {}
    for size in SIZES:
        images = torch.randn(1, 3, *size)
        found["{} × {}".format(*size)] = {
            "as it runs": difference(our_model(images), peer_model(images)),
            "as it loads": difference(our_model(images), load_at_size(size, peer_model)(images)),
        }
    return found


def load_at_size(size: tuple[int, int], peer_model: nn.Module) -> nn.Module:
    """timm's model made for images of `size`, with the weights as timm's loader changes them."""
    model: Any = timm.create_model(RESIZED, pretrained=False, img_size=size).eval()
    model.load_state_dict(checkpoint_filter_fn(peer_model.state_dict(), model))
    return model


def read_results() -> dict[str, Any]:
    """Those there are, to which models may be added while the machine and the libraries are the same."""
    environment = {
        "machine": device_name(torch.device("cpu")),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    path = RESULTS / "parity.json"
    if not path.exists():
        return environment | {"models": {}, "sizes": {}}
    results = json.loads(path.read_text(encoding="utf-8"))
    recorded = {name: results[name] for name in environment}
    if recorded != environment:
        raise SystemExit(
            f"{path} was measured with {recorded}, but this is {environment}: move it to measure every model again"
        )
    return results


def write_results(results: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_file(RESULTS / "parity.json", json.dumps(results, indent=1, allow_nan=False, sort_keys=True) + "\n")
    write_file(RESULTS / "parity.md", as_markdown(results))
    write_file(PAGE, page_with(PAGE.read_text(encoding="utf-8"), BEGIN, page_lines(results), END))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only models whose names contain one of these, or sizes"
    )
    only = parser.parse_args().only
    console, results = Console(), read_results()
    for name, (family, build) in MODELS.items():
        if name in results["models"] or (only and not any(word in name for word in only)):
            continue
        results["models"][name] = compare(family, build())
        gc.collect()  # the largest models take several GiB
        write_results(results)
        stages = {stage: format_difference(found) for stage, found in results["models"][name]["stages"].items()}
        console.print(name, stages)
    if not results["sizes"] and (not only or "sizes" in only):
        results["sizes"] = compare_sizes()
        write_results(results)
        console.print(results["sizes"])


if __name__ == "__main__":
    main()
