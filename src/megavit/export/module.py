"""A bundle as one module, from an image's pixels to calibrated answers: what the other runtimes get."""

import copy

import torch
from torch import Tensor, nn

from megavit.config.export_info import DISTANCE, EMBEDDING, PROBABILITIES, SCORE, InputKind
from megavit.data.augment import normalize
from megavit.errors import ConfigError
from megavit.export.resize import input_channels, prepared
from megavit.predict.postprocess.postprocess import logits_to_outputs
from megavit.predict.predictor import Predictor


class ExportModule(nn.Module):
    """Maps images to a tuple of float32 in the order of `output_names`.

    Args:
        predictor: whose model is copied.
        input: "pixels", uint8 (B, height, width, channels) of any one size, which are resized and normalized here; or
            "images", float32 (B, C, height, width), for which that was done.
        dtype: that the model computes in; what comes before it, the head and what follows stay float32.
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
        self.classifies = bool(predictor.info.model.num_classes)
        likeness = predictor.calibrator.ood
        if likeness is not None:
            self.groups, self.center = nn.Buffer(likeness.groups), nn.Buffer(likeness.center)
            self.whitening = nn.Buffer(likeness.whitening)
        self.knows_likeness = likeness is not None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.input == "pixels":
            images = prepared(images.permute(0, 3, 1, 2), self.preprocessing) / 255
            images = normalize(images, self.preprocessing)
        embedding = self.model(images.to(self.dtype)).float()
        found = [embedding]
        if self.classifies:
            found.insert(0, logits_to_outputs(self.head(embedding), self.target, self.calibration))
        if self.knows_likeness:
            whitened = (embedding - self.center) @ self.whitening
            found.append((whitened[:, None] - self.groups).square().sum(dim=2).amin(dim=1).sqrt())
        return tuple(found)


def output_names(predictor: Predictor) -> tuple[str, ...]:
    """Of what an exported model answers with, in order."""
    answer = (SCORE if predictor.target == "regression" else PROBABILITIES,) if predictor.info.model.num_classes else ()
    return (*answer, EMBEDDING, *((DISTANCE,) if predictor.calibrator.ood is not None else ()))


def example(predictor: Predictor, input: InputKind) -> Tensor:
    """An input to trace with, of two images; its sizes are none that anything in the model has."""
    size = predictor.info.preprocessing
    if input == "images":
        return torch.zeros(2, size.channels, size.height, size.width)
    return torch.zeros(2, size.height + 13, size.width + 29, input_channels(size), dtype=torch.uint8)


def check_size(predictor: Predictor) -> None:
    """Raise a ConfigError for a bundle whose images keep their aspect, since each has a size of its own then."""
    if predictor.info.preprocessing.keep_aspect:
        raise ConfigError(
            "this bundle keeps images' aspect, so that each has a size of its own, and an exported model has one for "
            "all: train without --keep-aspect for one that can be exported"
        )
