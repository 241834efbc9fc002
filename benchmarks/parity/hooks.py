"""What the parts of a model answer while it runs, found by their names."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def capture_outputs(
    modules: Mapping[str, nn.Module], run: Callable[[], Any], inputs_of: Mapping[str, nn.Module] | None = None
) -> tuple[dict[str, Tensor], Any]:
    """What each of `modules` answers in `run` and what each of `taken_by` takes, in order; what `run` answers."""
    captured: dict[str, Tensor] = {}

    def capture(stage: str, value: Any) -> None:
        # SimpleViT adds positions to its patches in place.
        captured[stage] = (value[0] if isinstance(value, tuple) else value).clone()

    hooks = [
        module.register_forward_hook(lambda _, __, output, stage=stage: capture(stage, output))
        for stage, module in modules.items()
    ] + [
        module.register_forward_pre_hook(lambda _, inputs, stage=stage: capture(stage, inputs))
        for stage, module in (inputs_of or {}).items()
    ]
    try:
        return captured, run()
    finally:
        for hook in hooks:
            hook.remove()


def submodule(module: nn.Module, suffix: str) -> nn.Module:
    """The part of `module` whose name is `suffix`, or else the first whose name ends in it after a dot."""
    parts = dict(module.named_modules())
    return parts.get(suffix) or next(part for name, part in parts.items() if name.endswith(f".{suffix}"))


def flatten_patches(patches: Tensor, width: int) -> Tensor:
    """(B, D, rows, columns), (B, rows, columns, D) or (B, N, D) as (B, N, D)."""
    if patches.ndim == 3:
        return patches
    return patches.flatten(1, 2) if patches.shape[-1] == width else patches.flatten(2).transpose(1, 2)
