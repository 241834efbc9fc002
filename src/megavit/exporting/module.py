"""Define the module that is exported: a bundle from pixels to calibrated outputs."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.export_info import DISTANCE, EMBEDDING, IMAGES, PROBABILITIES, SCORE, InputKind
from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.errors import ConfigError
from megavit.exporting.resize import input_channels, resize_and_crop
from megavit.model.embedding.patch_embed import PatchEmbedding
from megavit.model.outputs.logits import logits_to_outputs
from megavit.predict.predictor import Predictor


class ExportModule(nn.Module):
    """A module that maps images to a tuple of float32 outputs in the order of `output_names`.

    Args:
        predictor: predictor whose model is copied.
        input: "pixels" for uint8 (B, height, width, channels) of any one size, resized and normalized in the module; or
            "images" for float32 (B, C, height, width), already resized and normalized.
        dtype: dtype of the backbone; preprocessing, head and postprocessing are in float32.
    """

    def __init__(self, predictor: Predictor, input: InputKind = "pixels", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        check_size(predictor)
        self.preprocessing = predictor.info.preprocessing
        self.target, self.calibration = predictor.info.target, predictor.info.calibration
        self.input, self.dtype = input, dtype
        self.model = copy.deepcopy(predictor.model).cpu().eval().requires_grad_(False)
        self.head = self.model.mlp_head
        self.model.mlp_head = nn.Identity()
        self.model.to(dtype)
        self.has_classifier = bool(predictor.info.model.num_classes)
        ood = predictor.calibrator.ood
        self.has_distance = ood is not None
        if ood is not None:
            self.groups, self.center = nn.Buffer(ood.groups), nn.Buffer(ood.center)
            self.whitening = nn.Buffer(ood.whitening)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.input == "pixels":
            images = preprocess_pixels(images, self.preprocessing)
        embedding = self.model(images.to(self.dtype)).float()
        outputs = [embedding]
        if self.has_classifier:
            outputs.insert(0, logits_to_outputs(self.head(embedding), self.target, self.calibration))
        if self.has_distance:
            whitened = (embedding - self.center) @ self.whitening
            outputs.append((whitened[:, None] - self.groups).square().sum(dim=2).amin(dim=1).sqrt())
        return tuple(outputs)


class PatchConvolution(nn.Module):
    """A patch embedding as a convolution, for runtimes without `unfold`: (B, C, height, width) -> (B, N, D)."""

    def __init__(self, embedding: PatchEmbedding) -> None:
        super().__init__()
        if not isinstance(embedding.pixel_norm, nn.Identity):
            raise ConfigError("this format has no norm of the pixels of each patch: export this model to onnx")
        self.embedding = embedding

    def grid(self, images: Tensor) -> tuple[int, int]:
        return self.embedding.grid(images)

    def forward(self, images: Tensor) -> Tensor:
        projection, patch_hw = self.embedding.projection, self.embedding.patch_hw
        kernel = projection.weight.unflatten(1, (-1, *patch_hw))
        tokens = F.conv2d(images, kernel, projection.bias, stride=patch_hw).flatten(2).transpose(1, 2)
        return self.embedding.norm(tokens)


def image_module(predictor: Predictor) -> ExportModule:
    """Return the module for preprocessed images in float32, for runtimes without `unfold`.

    Raises:
        ConfigError: if its patches cannot be made by a convolution.
    """
    module = ExportModule(predictor, IMAGES).eval()
    if isinstance(module.model.patch_embedding, PatchEmbedding):
        module.model.patch_embedding = PatchConvolution(module.model.patch_embedding)  # pyrefly: ignore
    return module


def preprocess_pixels(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize, crop and normalize uint8 (B, H, W, channels) of any size to float32 (B, C, height, width)."""
    return normalize(resize_and_crop(pixels.permute(0, 3, 1, 2), preprocessing) / 255, preprocessing)


def run_eagerly(module: ExportModule, names: tuple[str, ...]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs a module in PyTorch, from the model's input to its outputs by name."""

    def run(inputs: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: values.numpy() for name, values in zip(names, module(torch.from_numpy(inputs)), strict=True)}

    return run


def output_names(predictor: Predictor) -> tuple[str, ...]:
    """Return the names of an exported model's outputs, in order."""
    main = (SCORE if predictor.target == "regression" else PROBABILITIES,) if predictor.info.model.num_classes else ()
    return (*main, EMBEDDING, *((DISTANCE,) if predictor.calibrator.ood is not None else ()))


def example_input(predictor: Predictor, input: InputKind) -> Tensor:
    """Return two images to trace with, whose sizes occur nowhere in the model."""
    size = predictor.info.preprocessing
    if input == "images":
        return torch.zeros(2, size.channels, size.height, size.width)
    return torch.zeros(2, size.height + 13, size.width + 29, input_channels(size), dtype=torch.uint8)


def check_size(predictor: Predictor) -> None:
    """Raise a ConfigError if the bundle keeps the images' aspect ratio, so that they have no fixed size."""
    if predictor.info.preprocessing.keep_aspect:
        raise ConfigError(
            "this bundle keeps the images' aspect ratio, but an exported model needs images of a fixed size: train "
            "without --keep-aspect to export the model"
        )
