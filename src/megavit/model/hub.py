"""Save and load the model alone, in a folder or on the Hugging Face hub, with the methods that users know from there.

FOLDER/config.json         the config, by the names of `ViTConfig`
FOLDER/model.safetensors   the weights

The folder of a bundle on the hub has both files too. safetensors is imported when they are read or written, so that the
model needs nothing but PyTorch.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from torch import nn

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.runtime.hub import HUB, download, upload
from megavit.runtime.storage import write_file, writing

CONFIG, WEIGHTS, BUNDLE_INFO = "config.json", "model.safetensors", "megavit.json"
MODEL_TYPE = "megavit"


class HubModel(nn.Module):
    """A base class of models that are saved to and loaded from a folder or the hub.

    The methods are those of huggingface_hub's `ModelHubMixin`, which is only imported when the hub is used.
    """

    config: ViTConfig

    @classmethod
    def from_config(cls, config: ViTConfig) -> Self:
        """Return a model with this config."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *, revision: str | None = None) -> Self:
        """Load the model of a bundle, or one saved by `save_pretrained` or `push_to_hub`, in evaluation mode.

        Args:
            pretrained_model_name_or_path: folder, or USER/NAME on the hub.
            revision: branch, tag or commit on the hub.

        Raises:
            BundleError: if there is no such model, or if its files are damaged.
            ConfigError: if its config is invalid.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            name = str(pretrained_model_name_or_path).removeprefix(HUB)
            folder = download(f"{HUB}{name}@{revision}" if revision else f"{HUB}{name}")
        elif not (folder / WEIGHTS).exists() and (folder / "bundle" / WEIGHTS).exists():
            folder = folder / "bundle"  # of a training run
        config = read_config(folder)
        with torch.device("meta"):
            model = cls.from_config(config)
        try:
            model.load_state_dict(load_file(folder / WEIGHTS), assign=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise BundleError(f"{folder / WEIGHTS} does not have the weights of the model: {error}") from None
        return model.eval()

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write config and weights to a folder, or raise OutputError."""
        folder = Path(save_directory)
        with writing("the model", folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self._render().items():
                write_file(folder / name, content)

    def push_to_hub(self, repo_id: str, *, private: bool = False, commit_message: str = "Upload a MegaVit") -> str:
        """Upload config and weights to USER/NAME on the hub, and return the address of its page.

        Labels, preprocessing and calibration are not part of a model: `megavit.push` uploads a bundle, which has them.

        Raises:
            ConfigError, OutputError: as in `megavit.runtime.hub.upload`.
        """
        return upload(self._render(), HUB + repo_id.removeprefix(HUB), private=private, message=commit_message)

    def _render(self) -> dict[str, bytes]:
        from safetensors.torch import save

        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        return {CONFIG: render_config(self.config), WEIGHTS: save(tensors)}


def render_config(config: ViTConfig) -> bytes:
    """Return the content of `CONFIG`."""
    return json.dumps({"model_type": MODEL_TYPE, **asdict(config)}, indent=1).encode()


def read_config(folder: Path) -> ViTConfig:
    """Return the config of a saved model or a bundle, or raise BundleError or ConfigError."""
    from megavit.config.serialization import from_dict, parse_json

    if (folder / BUNDLE_INFO).exists():
        info = parse_json((folder / BUNDLE_INFO).read_bytes(), str(folder / BUNDLE_INFO), BundleError)
        if info.get("ensemble"):
            raise BundleError(
                f"{folder} is an ensemble of {len(info['ensemble'])} models, not one model: megavit.load loads it"
            )
    path = folder / CONFIG if (folder / CONFIG).exists() else folder / BUNDLE_INFO
    try:
        table = parse_json(path.read_bytes(), str(path), BundleError)
    except OSError as error:
        raise BundleError(f"{folder} has no model of megavit: {path} cannot be read: {error.strerror}") from None
    settings = table.get("model") if path.name == BUNDLE_INFO else table
    if not isinstance(settings, dict) or (path.name == CONFIG and settings.pop("model_type", None) != MODEL_TYPE):
        raise BundleError(
            f"{path} is not of a model of megavit: those of other libraries are read by megavit convert and --from"
        )
    return from_dict(ViTConfig, settings, str(path))
