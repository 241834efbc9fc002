"""Infer the meaning of another library's outputs, and the names of its classes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megavit.config.target import Target, TargetKind
from megavit.errors import BundleError, ConfigError
from megavit.weights.pretrained.settings_files import valid_settings

PROBLEM_TYPE = "problem_type"
KINDS: dict[str, TargetKind] = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}
# Key in config.json for settings that only megavit reads; other libraries preserve it.
EXTRA = "megavit"
THRESHOLD = 0.5
FLAG = "megavit convert --target"


def infer_target(settings: dict[str, Any], outputs: int, kind: TargetKind | None = None) -> tuple[Target, list[str]]:
    """Return the meaning of another library's outputs, and sentences on how it was determined.

    Without a `problem_type`, several outputs are classes (softmax) and a single output is a label (sigmoid), as in
    transformers' `ImageClassificationPipeline.postprocess`.

    Args:
        settings: contents of config.json.
        outputs: number of outputs of the head; 0 if there is no head.
        kind: target given by the user, which takes precedence over the settings.

    Raises:
        BundleError: if the `problem_type` is unknown, or impossible with this number of outputs.
        ConfigError: if `kind` is given for a model without a head.
    """
    if not outputs:
        if kind is not None:
            raise ConfigError(f"--target {kind} requires a model with a head, but this one has none: leave it out")
        return Target(), []
    problem_type = settings.get(PROBLEM_TYPE)
    if problem_type is not None and (not isinstance(problem_type, str) or problem_type not in KINDS):
        raise BundleError(
            f"config.json has {PROBLEM_TYPE} {problem_type!r}, expected {', '.join(KINDS)}; correct it, or set it with "
            f"{FLAG}"
        )
    notes = [] if kind or problem_type is not None else _assumption(settings, outputs)
    origin = "--target" if kind else f"{PROBLEM_TYPE} {problem_type}"
    default = "multilabel" if outputs == 1 else "classification"
    kind = kind or (default if problem_type is None else KINDS[problem_type])
    if kind == "regression" and outputs != 1:
        raise BundleError(
            f"the head has {outputs} regression outputs ({origin}), but a bundle predicts one score per image: keep "
            "one row of the head, or remove the head and train a new one (megavit train --from)"
        )
    if kind == "classification" and outputs == 1:
        raise BundleError(
            f"the head has one output for mutually exclusive classes ({origin}), so every image would get probability "
            f"1: set what it is with {FLAG} multilabel or {FLAG} regression"
        )
    extra = settings.get(EXTRA)
    extra = extra if isinstance(extra, dict) else {}
    if kind == "classification":
        return Target(), notes
    with valid_settings("outputs"):
        if kind == "regression":
            mean, std, median = extra.get("mean", 0.0), extra.get("std", 1.0), extra.get("median")
            return Target(kind="regression", mean=mean, std=std, median=median), notes
        thresholds = extra.get("thresholds")
        if isinstance(thresholds, list) and len(thresholds) == outputs:
            return Target(kind="multilabel", thresholds=thresholds), notes
    notes.append(
        f"labels are assigned from probability {THRESHOLD:g} on, as the files have no thresholds; megavit calibrate "
        "finds better ones"
    )
    return Target(kind="multilabel", thresholds=[THRESHOLD] * outputs), notes


def _assumption(settings: dict[str, Any], outputs: int) -> list[str]:
    if outputs == 1:
        return [
            "the files do not say what the head's one output means: it is read as one label, by its sigmoid, as in "
            f"transformers' pipeline; if it is a score, use {FLAG} regression"
        ]
    if "model_type" in settings:  # the default of transformers' pipeline
        return []
    return [
        f"the files do not say what the {outputs} outputs mean: they are read as one class per image, by their "
        f"softmax; if an image can have several labels, use {FLAG} multilabel"
    ]


def target_settings(target: Target) -> dict[str, Any]:
    """Return config.json settings from which transformers' pipeline and `infer_target` determine the target."""
    notes: dict[str, Any] = {
        PROBLEM_TYPE: next(problem_type for problem_type, kind in KINDS.items() if kind == target.kind)
    }
    if target.kind == "multilabel":
        notes[EXTRA] = {"thresholds": list(target.thresholds)}
    if target.kind == "regression":
        notes[EXTRA] = {"mean": target.mean, "std": target.std}
        notes[EXTRA] |= {} if target.median is None else {"median": target.median}
    return notes


def class_names(settings: dict[str, Any], num_classes: int) -> tuple[tuple[str, ...], list[str]]:
    """Return unique class names, and sentences on names that the settings lack.

    Unnamed outputs are "class 0" and so on; "LABEL_0" if transformers' settings, which have a `model_type`, name none.
    """
    by_output, notes = _named_outputs(settings, num_classes)
    template = "LABEL_{}" if "model_type" in settings and not by_output else "class {}"
    return unique_names([by_output.get(i, template.format(i)) for i in range(num_classes)]), notes


def _named_outputs(settings: dict[str, Any], num_classes: int) -> tuple[dict[int, str], list[str]]:
    with valid_settings("class names"):
        pretrained = settings.get("pretrained_cfg")
        sources = (settings, pretrained if isinstance(pretrained, dict) else {})
        given = next((source["label_names"] for source in sources if source.get("label_names")), None)
        given = given or settings.get("id2label") or settings.get("labels")
        # A list, or a table of index -> name that may be incomplete.
        pairs = given.items() if isinstance(given, dict) else enumerate(given or ())
        named = {int(number): str(name) for number, name in pairs}
    if not named or not num_classes or named.keys() == set(range(num_classes)):
        return named, []
    if all(name == f"LABEL_{number}" for number, name in named.items()):
        return {}, []  # transformers' placeholder names
    if isinstance(given, dict) and named.keys() < set(range(num_classes)):
        return named, [f"the settings name only {len(named)} of the {num_classes} outputs; the others are numbered"]
    return {}, [
        f"the settings name {len(named)} classes, up to number {max(named)}, but the head has {num_classes} outputs: "
        "the names were ignored, as they may belong to other outputs"
    ]


def read_class_names(path: Path, count: int) -> tuple[str, ...]:
    """Read `count` class names, in the order of the outputs, from a file.

    The file has one name per line, or JSON: a list, or a table of index -> name or name -> index.

    Raises:
        ConfigError: if the file cannot be read, has another format, or does not name `count` classes.
    """
    _check_has_classes(count, f"--class-names {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _from_json(json.loads(text), path) if _is_json(path, text) else _from_lines(text)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--class-names {path} cannot be read: {error}") from None
    return check_class_names(names, count, f"--class-names {path}")


def check_class_names(names: Sequence[str], count: int, where: str = "--class-names") -> tuple[str, ...]:
    """Return the names made unique, or raise a ConfigError that begins with `where` unless there are `count`."""
    _check_has_classes(count, where)
    if len(names) != count:
        raise ConfigError(f"{where} names {len(names)} classes, but the model has {count}")
    return unique_names(names)


def _check_has_classes(count: int, where: str) -> None:
    if not count:
        raise ConfigError(f"{where}: the model has no classifier, so there are no classes to name")


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names made unique by a number: "a", "a" become "a", "a (2)"."""
    given, unique = set(names), dict[str, None]()
    for name in names:
        new, number = name, 1
        while new in unique or (number > 1 and new in given):
            number += 1
            new = f"{name} ({number})"
        unique[new] = None
    return tuple(unique)


def _is_json(path: Path, text: str) -> bool:
    return path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{")


def _from_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _from_json(content: Any, path: Path) -> list[str]:
    if isinstance(content, dict) and content and all(_is_number(value) for value in content.values()):
        content = {str(number): name for name, number in content.items()}
    if isinstance(content, dict) and all(_is_number(key) for key in content):
        numbers = sorted(content, key=int)
        if [int(number) for number in numbers] != list(range(len(numbers))):
            raise ConfigError(f"--class-names {path} must number the classes from 0 to {len(numbers) - 1}, each once")
        content = [content[number] for number in numbers]
    if not isinstance(content, list) or not all(isinstance(name, str) and name.strip() for name in content):
        raise ConfigError(
            f"--class-names {path} must have one name per line, or be JSON: a list of names, or number -> name"
        )
    return [name.strip() for name in content]


def _is_number(value: Any) -> bool:
    return str(value).isdecimal() and not isinstance(value, bool)
