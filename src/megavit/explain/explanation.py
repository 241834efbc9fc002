"""Why a predictor says what it says of an image.

explanation = explain_image(megavit.load("runs/flowers"), "photo.jpg")
explanation.overlay().save("why.png")
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from megavit.config.names import canonical, index_by_name
from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.data.image_dataset import make_batch, preprocess
from megavit.errors import BundleError, ConfigError
from megavit.explain.maps import relevance_map
from megavit.explain.methods import DEFAULT_METHOD, Method
from megavit.explain.overlay import Box, draw_overlay, visible_box
from megavit.explain.summary import Focus, focus
from megavit.model.packing import stack_by_grid
from megavit.model.vit import MegaVit
from megavit.predict.predictor import Image, Predictor, read_image


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Which patches of one image an answer comes from.

    Attributes:
        map: (rows, columns) float32, each patch's share; they sum to 1, or are all 0 where nothing speaks for it.
        label: the class or label that is explained; None for a score.
        probability: of `label`, in [0, 1]; None for a score.
        score: in the unit of the training scores; None for a class or label.
        method: by which the map was made.
        picture: uint8 (C, H, W), the image at its own size.
        box: the part of it that the model sees.
    """

    map: Tensor = field(repr=False)
    label: str | None
    probability: float | None
    score: float | None
    method: Method
    picture: Tensor = field(repr=False)
    box: Box

    @property
    def focus(self) -> Focus:
        """Where the map is highest, in words."""
        return focus(self.map)

    def overlay(self) -> PIL.Image.Image:
        """The picture in gray under the map in colors, as `megavit.explain.overlay.draw_overlay` lays it."""
        return draw_overlay(self.map, self.picture, self.box)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, without the picture."""
        answer = {"score": self.score} if self.label is None else {"label": self.label, "probability": self.probability}
        found = self.focus
        return {
            **answer,
            "method": self.method,
            "place": found.place,
            "top": found.top,
            "share": found.share,
            "map": self.map.tolist(),
        }


def explain_image(
    predictor: Predictor, image: Image, label: str | None = None, method: Method = DEFAULT_METHOD
) -> Explanation:
    """Why the predictor gives an image its class, its likeliest label, or its score.

    Args:
        image: as `Predictor.predict` takes it.
        label: another class or label to explain.
        method: of `megavit.explain.methods`; the map of "rollout" is the same for every label.

    Raises:
        ImageError: (a ValueError) for an image that cannot be read, with the reason.
        ConfigError: for a label that the bundle does not know.
        BundleError: where it has no classifier.
    """
    place = output_index(predictor, label)
    preprocessing = predictor.info.preprocessing
    prepared = predictor.prepare(image)
    picture = read_image(image, None)[0]
    (answers,) = predictor.outputs([make_batch([prepared], preprocessing)])
    is_score = predictor.target == "regression"
    if place is None:
        place = 0 if is_score else int(answers.argmax())
    answer = answers.flatten()[place].item()
    return Explanation(
        map=compute_maps(predictor.model, [prepared], preprocessing, [place], method)[0],
        label=None if is_score else predictor.labels[place],
        probability=None if is_score else answer,
        score=answer if is_score else None,
        method=method,
        picture=picture,
        box=visible_box(picture.shape[1], picture.shape[2], preprocessing),
    )


def output_index(predictor: Predictor, label: str | None) -> int | None:
    """Of a label among the predictor's outputs.

    Raises:
        ConfigError: for a label that it does not know.
        BundleError: where it has no classifier.
    """
    if not predictor.model.config.num_classes:
        raise BundleError("this bundle has no classifier, so there is no answer to explain")
    if label is None:
        return None
    if predictor.target == "regression":
        raise ConfigError(f"this bundle answers with a score and knows no labels; leave out the label {label!r}")
    index = index_by_name(predictor.labels)
    found = index.get(label, index.get(canonical(label)))
    if found is None:
        known = ", ".join(predictor.labels[:10]) + (" …" if len(predictor.labels) > 10 else "")
        raise ConfigError(f"label must be one that the bundle knows, such as {known}; got {label!r}")
    return found


def make_overlays(
    model: MegaVit,
    pictures: Sequence[Tensor],
    preprocessing: Preprocessing,
    targets: Sequence[int] | None = None,
    method: Method = DEFAULT_METHOD,
) -> list[PIL.Image.Image]:
    """An overlay for each of a few pictures, their maps computed together.

    Args:
        pictures: uint8 (C, H, W), of any size, of channels that the model takes.
        targets: the place of the logit to explain for each, a class's index; None: the largest one's.

    Raises:
        ImageError: for a picture whose channels do not fit.
    """
    prepared = [preprocess(one, preprocessing.size_for(*one.shape[1:]), preprocessing) for one in pictures]
    found = compute_maps(model, prepared, preprocessing, targets, method)
    boxes = [visible_box(one.shape[1], one.shape[2], preprocessing) for one in pictures]
    return [draw_overlay(*parts) for parts in zip(found, pictures, boxes, strict=True)]


def compute_maps(
    model: MegaVit,
    prepared: Sequence[Tensor],
    preprocessing: Preprocessing,
    targets: Sequence[int] | None = None,
    method: Method = DEFAULT_METHOD,
) -> list[Tensor]:
    """A map (rows, columns), float32 on the CPU, for each of some pictures as `image_dataset.prepare` gives."""
    device = next(model.parameters()).device
    order, stacks = stack_by_grid(prepared, [(one.shape[1], one.shape[2]) for one in prepared])
    places = None if targets is None else torch.tensor([targets[i] for i in order])
    found: list[Tensor] = []
    for stack in stacks:
        chosen = None if places is None else places[len(found) : len(found) + len(stack)]
        images = normalize(stack.to(device), preprocessing)
        found += relevance_map(model, images, chosen, method).cpu().unbind()
    return [found[order.index(i)] for i in range(len(order))]
