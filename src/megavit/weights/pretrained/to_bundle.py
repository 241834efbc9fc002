"""Convert another library's model to a bundle."""

from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.dataset import samples_csv
from megavit.data.decode.tensor import from_array
from megavit.data.image_dataset import COLOR_CHANNELS, resize
from megavit.errors import BundleError, OutputError
from megavit.model.vit import MegaVit
from megavit.weights.bundle import bundle
from megavit.weights.bundle.info import BundleInfo
from megavit.weights.bundle.safetensors_io import load_weights
from megavit.weights.pretrained.pretrained import MEGAVIT, PretrainedModel

REFERENCE_SIDE = 320


def build_model(pretrained: PretrainedModel) -> MegaVit:
    """Return the model with its weights in evaluation mode."""
    with torch.device("meta"):
        model = MegaVit.from_config(pretrained.config)
    # Cloned, as tensors may be shared between layers.
    load_weights(model, {name: tensor.clone() for name, tensor in pretrained.tensors.items()}, pretrained.name)
    return model.eval()


def convert_to_bundle(pretrained: PretrainedModel, out: Path) -> BundleInfo:
    """Write `pretrained` as a bundle to the new folder `out`.

    Raises:
        BundleError: if `pretrained` is already a bundle.
        OutputError: if `out` exists or cannot be written.
    """
    if pretrained.format == MEGAVIT:
        raise BundleError(f"{pretrained.name} is already a bundle: copy its folder, or choose another format with --to")
    if out.exists():
        raise OutputError(f"{out} already exists: choose a new folder")
    info = make_info(pretrained)
    model = bundle.build_model(info)
    load_weights(model, {name: tensor.clone() for name, tensor in pretrained.tensors.items()}, pretrained.name)
    images = reference_images(info.model.channels)
    bundle.save_bundle(out, model.eval(), info, reference=images, samples=samples_csv((), ()))
    return info


def make_bundle(pretrained: PretrainedModel, folder: Path) -> bundle.Bundle:
    """Return what loading the bundle of a model would give, without writing it; `folder` has the model's own files."""
    return bundle.Bundle(folder, make_info(pretrained), build_model(pretrained), {})


def make_info(pretrained: PretrainedModel) -> BundleInfo:
    """Return the metadata of the bundle that a model becomes."""
    config = pretrained.config
    height, width = config.image_hw
    default = Preprocessing(
        height=height, width=width, channels=config.channels, patch_size=config.patch_size, reduced_decoding=False
    )
    return BundleInfo(
        model=config,
        labels=list(pretrained.labels),
        preprocessing=pretrained.preprocessing or default,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        metrics={},
        data={
            "source": f"{pretrained.name}, {'; '.join(pretrained.notes)}",
            "origin": pretrained.origin.place,
            "license": pretrained.origin.license,
            "counts": {},
            "skipped": {},
        },
        recipe={},
        target=pretrained.target,
        cosine_dim=pretrained.cosine_dim,
    )


def reference_images(channels: int) -> list[Tensor]:
    """Return scikit-learn's two sample photographs, resized, or noise for unusual numbers of channels."""
    if channels not in COLOR_CHANNELS:
        random = torch.Generator().manual_seed(0)
        return [torch.randint(0, 256, (channels, 64, 96), dtype=torch.uint8, generator=random)]
    from sklearn.datasets import load_sample_images

    images = [from_array(image) for image in load_sample_images().images]
    return [resize(image, REFERENCE_SIDE * 2 // 3, REFERENCE_SIDE).contiguous() for image in images]
