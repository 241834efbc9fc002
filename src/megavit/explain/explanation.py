"""Explain predictions by relevance maps.

explanation = explain_image(megavit.load("runs/flowers"), "photo.jpg")
explanation.overlay().save("why.png")
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from megavit.config.names import canonical, index_by_name
from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.data.image_dataset import make_batch, preprocess
from megavit.errors import BundleError, ConfigError
from megavit.explain.maps import compute_relevance
from megavit.explain.methods import DEFAULT_METHOD, Method
from megavit.explain.overlay import Box, draw_overlay, visible_box
from megavit.explain.summary import MapSummary, summarize_map
from megavit.model.packing import stack_by_grid
from megavit.model.vit import MegaVit
from megavit.page import inline
from megavit.predict.predictor import Image, Predictor, read_image


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """A relevance map of an image, with the prediction that it explains.

    Attributes:
        map: (rows, columns) float32, each patch's share; sums to 1, or all 0 if nothing contributes.
        label, probability: the explained class or label, and its probability in [0, 1]; None for regression.
        value: the predicted score; None for classification and multilabel.
        method: one of `megavit.explain.methods`.
        image: uint8 (C, H, W), at its original size.
        box: region of the image that the model sees.
    """

    map: Tensor = field(repr=False)
    label: str | None
    probability: float | None
    value: float | None
    method: Method
    image: Tensor = field(repr=False)
    box: Box

    @property
    def summary(self) -> MapSummary:
        """A summary of where the map is highest."""
        return summarize_map(self.map)

    def overlay(self) -> PIL.Image.Image:
        """Return the map drawn over the image by `megavit.explain.overlay.draw_overlay`."""
        return draw_overlay(self.map, self.image, self.box)

    def _repr_html_(self) -> str:
        """Return the picture for a notebook, with what it explains."""
        what = f"{self.value:.4g}" if self.label is None else f"{self.label}, {self.probability:.1%}"
        return inline.block(inline.heading(what), inline.picture(self.overlay(), f"relevance map of {what}"))

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without the image."""
        if self.label is None:
            prediction: dict[str, Any] = {"score": self.value}
        else:
            prediction = {"label": self.label, "probability": self.probability}
        return prediction | {"method": self.method, **asdict(self.summary), "map": self.map.tolist()}


def explain_image(
    predictor: Predictor, image: Image, label: str | None = None, method: Method = DEFAULT_METHOD
) -> Explanation:
    """Return an explanation of an image's predicted class, most probable label or predicted score.

    Args:
        image: see `Predictor.predict`.
        label: another class or label to explain.
        method: one of `megavit.explain.methods`; "rollout" gives the same map for every label.

    Raises:
        ImageError: (a ValueError) if the image cannot be read; the message gives the reason.
        ConfigError: if the bundle does not have this label.
        BundleError: if the bundle has no classifier.
    """
    index = output_index(predictor, label)
    preprocessing = predictor.info.preprocessing
    prepared = predictor.prepare(image)
    pixels = read_image(image, None)[0]
    (outputs,) = predictor.outputs([make_batch([prepared], preprocessing)])
    is_regression = predictor.target == "regression"
    if index is None:
        index = 0 if is_regression else int(outputs.argmax())
    output = outputs.flatten()[index].item()
    return Explanation(
        map=compute_maps(predictor.model, [prepared], preprocessing, [index], method)[0],
        label=None if is_regression else predictor.labels[index],
        probability=None if is_regression else output,
        value=output if is_regression else None,
        method=method,
        image=pixels,
        box=visible_box(pixels.shape[1], pixels.shape[2], preprocessing),
    )


def output_index(predictor: Predictor, label: str | None) -> int | None:
    """Return the output index of a label, None for None; raise a ConfigError or BundleError if there is none."""
    if not predictor.info.model.num_classes:
        raise BundleError("this bundle has no classifier, so there is no prediction to explain")
    if label is None:
        return None
    if predictor.target == "regression":
        raise ConfigError(f"this bundle predicts a number and has no labels: leave out the label {label!r}")
    index = index_by_name(predictor.labels)
    found = index.get(label, index.get(canonical(label)))
    if found is None:
        known = ", ".join(predictor.labels[:10]) + (" …" if len(predictor.labels) > 10 else "")
        raise ConfigError(f"label must be one of the bundle's, such as {known}, got {label!r}")
    return found


def make_overlays(
    model: MegaVit,
    images: Sequence[Tensor],
    preprocessing: Preprocessing,
    targets: Sequence[int] | None = None,
    method: Method = DEFAULT_METHOD,
) -> list[PIL.Image.Image]:
    """Return an overlay for each image, or raise an ImageError if an image has the wrong number of channels.

    Args:
        images: uint8 (C, H, W), of any size.
        targets: index of the output to explain for each image, such as a class; None for the largest logit.
    """
    prepared = [preprocess(image, preprocessing.size_for(*image.shape[1:]), preprocessing) for image in images]
    maps = compute_maps(model, prepared, preprocessing, targets, method)
    boxes = [visible_box(image.shape[1], image.shape[2], preprocessing) for image in images]
    return [draw_overlay(*parts) for parts in zip(maps, images, boxes, strict=True)]


def compute_maps(
    model: MegaVit,
    prepared: Sequence[Tensor],
    preprocessing: Preprocessing,
    targets: Sequence[int] | None = None,
    method: Method = DEFAULT_METHOD,
) -> list[Tensor]:
    """Return a map (rows, columns), float32 on the CPU, for each image returned by `image_dataset.preprocess`."""
    device = next(model.parameters()).device
    order, stacks = stack_by_grid(prepared, [(image.shape[1], image.shape[2]) for image in prepared])
    ordered = None if targets is None else torch.tensor([targets[i] for i in order])
    maps: list[Tensor] = []
    for stack in stacks:
        chosen = None if ordered is None else ordered[len(maps) : len(maps) + len(stack)]
        maps += compute_relevance(model, normalize(stack.to(device), preprocessing), chosen, method).cpu().unbind()
    return [maps[order.index(i)] for i in range(len(order))]
