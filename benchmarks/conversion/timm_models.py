"""Every architecture of timm's that has published weights and is a Vision Transformer, or looks like one, read by us.

    python -m benchmarks.conversion.timm_models                # counts, and why what is refused is refused
    python -m benchmarks.conversion.timm_models --only eva02   # architectures whose names hold one of the words
    python -m benchmarks.conversion.timm_models --write        # results/conversion/timm.json and timm.md as well

Each is built with few layers of few channels and random weights, and handed over in three ways: its tensors alone,
these with what the user is asked for, and a folder as timm itself writes it. The verdict on each is one of
    exact      our features and logits are timm's, to 1e-4 of the largest
    announced  they are not, and it was said what was assumed
    refused    an error of ours, with its reason
    wrong      they are not, and nothing was said; or any other error
    not built  the architecture has no small sizes
"""

import argparse
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from rich.console import Console
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

from benchmarks.parity.stages import perturb_weights
from megavit.config.vit import pair
from megavit.errors import MegavitError
from megavit.runtime.storage import write_file
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.to_bundle import build_model

RESULTS = Path(__file__).parents[1] / "results" / "conversion"
# Files of timm's with Vision Transformers, and with models that look like them.
MODULES = (
    "vision_transformer", "eva", "deit", "beit", "vision_transformer_hybrid", "vision_transformer_relpos",
    "vision_transformer_sam", "naflexvit", "cait", "crossvit", "xcit", "convit", "volo",
)  # fmt: skip
WAYS = ("tensors alone", "tensors and what is asked for", "timm's folder")
TOLERANCE = 1e-4
MAX_PARAMETERS = 30_000_000  # of a model that is built at full size
ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu"}
POOLS = {"token": "cls", "avg": "mean", "map": "map"}


class NoSmallVariantError(Exception):
    """An architecture has no small sizes."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of one architecture in one way: see above; `reason` is the first line of an error, or the largest
    difference."""

    verdict: str
    reason: str


def count_published_weights() -> dict[str, int]:
    """Return architecture -> how many published weights it has, of every file in `MODULES`."""
    names = [name for module in MODULES for name in timm.list_models(module=module, pretrained=True)]
    return dict(Counter(name.partition(".")[0] for name in names))


def build_small(name: str) -> Any:
    """Return a small model of an architecture, with its own heads, every weight away from its initial value.

    Raises:
        NotSmall: when it cannot be built small.
    """
    torch.manual_seed(0)
    with torch.device("meta"):
        full_model: Any = create_first_possible(name, [{"depth": 1}, {}])
    heads = get_num_heads(full_model)
    sizes: list[dict[str, Any]] = []
    if heads:
        narrow = {"embed_dim": 16 * heads, "depth": 2, "num_classes": 5}
        sizes = [narrow, narrow | {"num_kv_heads": heads // 2}, {"depth": 2}]
    if sum(parameter.numel() for parameter in full_model.parameters()) < MAX_PARAMETERS:
        sizes.append({})
    model = create_first_possible(name, sizes)
    perturb_weights(model, scale=0.05)
    return model.eval()


def create_first_possible(name: str, sizes: list[dict[str, Any]]) -> Any:
    """Return an architecture of the first sizes that it can have."""
    for overrides in sizes:
        try:
            return timm.create_model(name, pretrained=False, **overrides)
        except (TypeError, AssertionError, RuntimeError, ValueError, KeyError, IndexError):
            continue  # not every architecture supports these sizes
    raise NoSmallVariantError(f"{name} has no such sizes")


def get_num_heads(model: Any) -> int | None:
    """Return the heads of the first block, where there are blocks of one attention."""
    block = next(iter(getattr(model, "blocks", ())), None)
    return getattr(getattr(block, "attn", block), "num_heads", None)


def user_options(model: Any) -> dict[str, Any]:
    """Return what a user may say of a model, by `megavit convert`."""
    last = next((norm for norm in (model.norm, model.fc_norm) if not isinstance(norm, nn.Identity)), None)
    act = getattr(getattr(model.blocks[0], "mlp", None), "act", getattr(model.blocks[0], "mlp_act", None))
    facts = {
        "heads": get_num_heads(model),
        "norm_eps": getattr(last, "eps", None),
        "mlp": ACTIVATIONS.get(type(act).__name__),
        "pool": POOLS.get(model.global_pool) if model.global_pool != "map" else None,
        "image_size": tuple(model.patch_embed.img_size),
    }
    if isinstance(last, nn.RMSNorm) or "RmsNorm" in type(last).__name__:
        facts["norm"] = "rms"
    return {name: value for name, value in facts.items() if value is not None}


def check_conversion(model: Any, path: Path, known: dict[str, Any]) -> Verdict:
    """Return what came of reading `path`, which is of `model`."""
    try:
        source = load_pretrained(str(path), known)
    except MegavitError as error:
        return Verdict(verdict="refused", reason=shorten_error(str(error).replace(str(path), "FILE")))
    difference = largest_difference(model, source)
    if difference <= TOLERANCE and has_same_norm_eps(model, source, known, path):
        return Verdict(verdict="exact", reason=f"{difference:.0e}")
    was_announced = any(sentence.startswith("assumed") for sentence in source.notes)
    return Verdict(
        verdict="announced" if was_announced else "wrong", reason=f"differs by {difference:.0e} of the largest"
    )


def shorten_error(message: str) -> str:
    """Return the first lines of an error, up to the first of a list of faults."""
    return re.sub(r" its \d+ tensors begin with .*", " …", " ".join(line.strip() for line in message.splitlines()[:2]))


def has_same_norm_eps(model: Any, source: PretrainedModel, known: dict[str, Any], path: Path) -> bool:
    """Return whether the epsilon is theirs too, where it was told: no answer of a few layers shows that."""
    last = next(norm for norm in (model.norm, model.fc_norm) if not isinstance(norm, nn.Identity))
    is_known = path.is_dir() or "norm_eps" in known
    return not is_known or source.config.design.norm_eps == last.eps


@torch.inference_mode()
def largest_difference(model: Any, source: PretrainedModel) -> float:
    """Return the largest difference of pooled features and logits, relative to the largest of theirs."""
    ours = build_model(source)
    height, width = pair("image_size", tuple(model.patch_embed.img_size))
    images = torch.randn(1, source.config.channels, height, width, generator=torch.Generator().manual_seed(1))
    features = model.forward_features(images)
    expected = {"pooled": model.forward_head(features, pre_logits=True), "logits": model.forward_head(features)}
    rows, columns = source.config.image_hw  # their models drop incomplete patches
    pooled = ours.features(images[:, :, :rows, :columns]).pooled
    actual = {"pooled": pooled, "logits": ours.mlp_head(pooled)}
    return max(relative_difference(actual[stage], expected[stage]) for stage in expected)


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def verdicts(name: str, folder: Path) -> dict[str, Verdict]:
    """Return the verdict on an architecture in each of `WAYS`; files are written to the empty `folder`."""
    model = build_small(name)
    bare, saved = folder / "bare.safetensors", folder / "saved"
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, bare)
    found = {WAYS[0]: check_conversion(model, bare, {})}
    if get_num_heads(model) and hasattr(model, "fc_norm") and hasattr(model, "patch_embed"):
        found[WAYS[1]] = check_conversion(model, bare, user_options(model))
    save_for_hf(model, str(saved), safe_serialization=True)
    found[WAYS[2]] = check_conversion(model, saved, {})
    return found


def sweep(only: list[str] | None) -> Iterator[tuple[str, dict[str, Verdict]]]:
    """Yield each architecture with its verdicts."""
    for name in count_published_weights():
        if only and not any(word in name for word in only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield name, verdicts(name, Path(folder))
            except NoSmallVariantError as error:
                yield name, {way: Verdict(verdict="not built", reason=str(error)) for way in WAYS}
            except (RuntimeError, TypeError, AttributeError, LookupError, ValueError) as error:
                yield name, {way: Verdict(verdict="wrong", reason=f"{type(error).__name__}: {error}") for way in WAYS}


def as_markdown(found: dict[str, dict[str, Verdict]], tags: dict[str, int]) -> str:
    """Return a table of counts, of architectures and of published weights, and one of reasons."""
    kinds = ("exact", "announced", "refused", "wrong", "not built")
    lines = [
        f"timm {version('timm')}: {len(found)} architectures, {sum(tags[name] for name in found)} published weights.",
        "",
        f"| handed over as | {' | '.join(kinds)} |",
        "|---|" + "---|" * len(kinds),
    ]
    for way in WAYS:
        selected = {name: verdicts[way] for name, verdicts in found.items() if way in verdicts}
        cells = []
        for kind in kinds:
            names = [name for name, verdict in selected.items() if verdict.verdict == kind]
            cells.append(f"{len(names)} ({sum(tags[name] for name in names)})")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    for way in WAYS:
        lines += ["", f"Not exact, {way}:", "", "| verdict | why | architectures |", "|---|---|---|"]
        reasons: dict[tuple[str, str], list[str]] = {}
        for name, ways in found.items():
            if way in ways and ways[way].verdict != "exact":
                why = "others than assumed" if ways[way].verdict == "announced" else ways[way].reason
                reasons.setdefault((ways[way].verdict, why.replace(name, "NAME")), []).append(name)
        for (verdict, reason), names in sorted(reasons.items()):
            lines.append(f"| {verdict} | {reason.replace('|', chr(92) + '|')} | {', '.join(names)} |")
    return "\n".join([*lines, ""])


def read_results() -> dict[str, dict[str, Verdict]]:
    """Return those there are, of this version of timm, to which architectures may be added."""
    path = RESULTS / "timm.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if results.get("timm") != version("timm"):
        return {}
    return {name: {way: Verdict(**row) for way, row in ways.items()} for name, ways in results["models"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="architectures whose names contain one of these")
    parser.add_argument("--write", action="store_true", help="also write to results/conversion/")
    arguments = parser.parse_args()
    console, tags = Console(), count_published_weights()
    found = read_results() if arguments.write and arguments.only else {}
    for name, ways in sweep(arguments.only):
        found[name] = ways
        console.print(name, *(verdict.verdict for verdict in ways.values()))
    text = as_markdown(found, tags)
    console.print(text, markup=False)
    if arguments.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        rows = {name: {way: asdict(verdict) for way, verdict in ways.items()} for name, ways in found.items()}
        write_file(RESULTS / "timm.json", json.dumps({"timm": version("timm"), "models": rows}, indent=1) + "\n")
        write_file(RESULTS / "timm.md", text)


if __name__ == "__main__":
    main()
