"""Find where pretrained weights come from and what their license is, for the bundle and its model card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megavit.runtime.hub import hub_page, is_hub_name
from megavit.weights.bundle.info import BundleInfo

MODEL_CARD = "README.md"
# Longer text is no identifier of a license.
MAX_LENGTH = 100


@dataclass(frozen=True)
class Origin:
    """The place that weights come from, for people, and the license stated there; "" if unknown."""

    place: str = ""
    license: str = ""


def read_origin(source: str, path: Path, settings: dict[str, Any]) -> Origin:
    """Return the origin of weights in a file or folder of another library, with `settings` of its config.json."""
    place = f"{hub_page(source)} on the Hugging Face hub" if is_hub_name(source) else str(path.absolute())
    timm_settings = settings.get("pretrained_cfg")
    stated = timm_settings.get("license") if isinstance(timm_settings, dict) else None
    return Origin(place, _license(path) or _as_license(stated))


def bundle_origin(path: Path, info: BundleInfo) -> Origin:
    """Return the origin of a bundle: that of the weights it was fine-tuned or converted from, else its own folder."""
    own = str(path.absolute())
    record = info.tuning or info.data
    license_name = _as_license(record.get("license"))
    earlier = record.get("origin")
    return Origin(f"{own}, itself from {earlier}" if isinstance(earlier, str) else own, license_name)


def _license(path: Path) -> str:
    """Return the license in the header of a folder's model card."""
    from huggingface_hub.repocard import metadata_load

    card = path / MODEL_CARD
    if not path.is_dir() or not card.is_file():
        return ""
    try:
        header = metadata_load(card) or {}
    except Exception:  # noqa: BLE001  # any text may stand there, and what it does to a YAML parser is its own affair
        return ""
    stated = header.get("license") if isinstance(header, dict) else None
    return _as_license(header.get("license_name") if stated == "other" else stated)


def _as_license(stated: object) -> str:
    return stated.strip() if isinstance(stated, str) and len(stated) <= MAX_LENGTH else ""
