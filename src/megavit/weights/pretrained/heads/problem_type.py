"""What a model's outputs mean, as another library's config.json says it: transformers' `problem_type`."""

from typing import Any

from megavit.config.target import Target, TargetKind
from megavit.errors import BundleError, ConfigError
from megavit.weights.pretrained.processors.image_processor import usable

PROBLEM_TYPE = "problem_type"
KINDS: dict[str, TargetKind] = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}
# A table in config.json of what no setting of other libraries has; their loaders keep it, and do not read it.
EXTRA = "megavit"
THRESHOLD = 0.5
FLAG = "megavit convert --target"


def target_of(settings: dict[str, Any], outputs: int, asked: TargetKind | None = None) -> tuple[Target, list[str]]:
    """Return what the outputs of another library's head mean, and sentences on how that is known.

    Without a `problem_type`, transformers' pipeline takes the softmax of several outputs, and the sigmoid of one
    (`ImageClassificationPipeline.postprocess`); so does this, for every library.

    Args:
        settings: what its config.json says.
        outputs: of its head; 0 where it has none.
        asked: what the user says it is, which goes before the settings.

    Raises:
        BundleError: for a `problem_type` that is none, or that outputs of this number cannot have.
    """
    if not outputs:
        if asked is not None:
            raise ConfigError(f"--target {asked} is for a model with a head, and this one has none: leave it out")
        return Target(), []
    said = settings.get(PROBLEM_TYPE)
    if said is not None and (not isinstance(said, str) or said not in KINDS):
        raise BundleError(
            f"config.json has {PROBLEM_TYPE} {said!r}, expected {', '.join(KINDS)}; correct it, or say it with {FLAG}"
        )
    kind = asked or (KINDS[said] if said is not None else "multilabel" if outputs == 1 else "classification")
    origin = "--target" if asked else f"{PROBLEM_TYPE} {said}"
    if kind == "regression" and outputs != 1:
        raise BundleError(
            f"the head has {outputs} outputs that are scores ({origin}), and a bundle answers with one score an image: "
            "keep one row of the head, or take the model without it and train a new one (megavit train --init)"
        )
    if kind == "classification" and outputs == 1:
        raise BundleError(
            f"the head has one output for classes that exclude each other ({origin}), so that every image would get it "
            f"with probability 1: say what it is with {FLAG} labels, or {FLAG} score"
        )
    told = [] if asked or said is not None else _assumption(settings, outputs)
    extra = settings.get(EXTRA)
    extra = extra if isinstance(extra, dict) else {}
    if kind == "classification":
        return Target(), told
    with usable("of what its outputs mean"):
        if kind == "regression":
            mean, std, median = extra.get("mean", 0.0), extra.get("std", 1.0), extra.get("median")
            return Target(kind="regression", mean=mean, std=std, median=median), told
        thresholds = extra.get("thresholds")
        if isinstance(thresholds, list) and len(thresholds) == outputs:
            return Target(kind="multilabel", thresholds=thresholds), told
    told.append(
        f"a label is given from probability {THRESHOLD:g} on, as nothing says otherwise; megavit calibrate finds better"
    )
    return Target(kind="multilabel", thresholds=[THRESHOLD] * outputs), told


def _assumption(settings: dict[str, Any], outputs: int) -> list[str]:
    if outputs == 1:
        return [
            "the head has one output, and nothing says what it means: taken for one label, by its sigmoid, as "
            f"transformers' pipeline takes it; where it is a score, say {FLAG} score"
        ]
    if "model_type" in settings:  # transformers': there the pipeline itself takes the softmax
        return []
    return [
        f"nothing says what the {outputs} outputs mean: taken for one class an image, by their softmax; where an image "
        f"can have several labels, say {FLAG} labels"
    ]


def settings_of(target: Target) -> dict[str, Any]:
    """Return the settings by which transformers' pipeline, and `target_of`, know what the outputs mean."""
    told: dict[str, Any] = {
        PROBLEM_TYPE: next(problem_type for problem_type, kind in KINDS.items() if kind == target.kind)
    }
    if target.kind == "multilabel":
        told[EXTRA] = {"thresholds": list(target.thresholds)}
    if target.kind == "regression":
        told[EXTRA] = {"mean": target.mean, "std": target.std}
        told[EXTRA] |= {} if target.median is None else {"median": target.median}
    return told
