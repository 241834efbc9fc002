"""What the parts of a model answer while it runs, found by their names."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def outputs(
    modules: Mapping[str, nn.Module], run: Callable[[], Any], taken_by: Mapping[str, nn.Module] | None = None
) -> tuple[dict[str, Tensor], Any]:
    """What each of `modules` answers in `run` and what each of `taken_by` takes, in order; what `run` answers."""
    seen: dict[str, Tensor] = {}

    def keep(stage: str, found: Any) -> None:
        # SimpleViT adds positions to its patches in place.
        seen[stage] = (found[0] if isinstance(found, tuple) else found).clone()

    hooks = [
        module.register_forward_hook(lambda _, __, output, stage=stage: keep(stage, output))
        for stage, module in modules.items()
    ] + [
        module.register_forward_pre_hook(lambda _, inputs, stage=stage: keep(stage, inputs))
        for stage, module in (taken_by or {}).items()
    ]
    try:
        return seen, run()
    finally:
        for hook in hooks:
            hook.remove()


def submodule(module: nn.Module, suffix: str) -> nn.Module:
    """The part of `module` whose name is `suffix`, or else the first whose name ends in it after a dot."""
    parts = dict(module.named_modules())
    return parts.get(suffix) or next(part for name, part in parts.items() if name.endswith(f".{suffix}"))


def flat(patches: Tensor, width: int) -> Tensor:
    """(B, D, rows, columns), (B, rows, columns, D) or (B, N, D) as (B, N, D)."""
    if patches.ndim == 3:
        return patches
    return patches.flatten(1, 2) if patches.shape[-1] == width else patches.flatten(2).transpose(1, 2)
