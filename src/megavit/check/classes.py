"""Classes that a model will know badly, because there are few images of them, or none where it is measured."""

from megavit.check.finding import Finding
from megavit.config.names import is_missing, look_alikes, told_apart
from megavit.data.samples import LabelledImages

FEW = 10
"""Images to learn from, below which a class is hardly learnt and its figures are chance."""
UNEVEN = 10.0
"""How many times the images of the smallest class the largest one must have to be worth a word."""
_NAMED = 5


def class_findings(images: LabelledImages) -> list[Finding]:
    """Names that look alike, uneven classes, those with few images, and those missing from a split; of labels not the
    uneven ones."""
    if images.target == "score":
        return []
    what = "class" if images.target == "classes" else "label"
    alike = [Finding("spelling", f"{told_apart(names)} look alike") for names in look_alikes(images.classes)]
    alike += [
        Finding("spelling", f"the {what} {name} is named as programs write that there is none")
        for name in images.classes
        if is_missing(name)
    ]
    counts = images.counts()
    learnt = counts["train"]
    found = alike + [
        Finding("few", f"the {what} {name} has {_images(count)} to learn from", score=1 - count / FEW)
        for name, count in learnt.items()
        if count < FEW
    ]
    large, small = max(learnt, key=learnt.__getitem__), min(learnt, key=learnt.__getitem__)
    ratio = learnt[large] / max(1, learnt[small])
    if images.target == "classes" and ratio > UNEVEN:
        sentence = f"{_images(learnt[large])} of {large} to learn from and {_images(learnt[small])} of {small}"
        found.append(Finding("imbalance", f"{sentence}: {ratio:.3g} times as many", score=ratio))
    for split, size in images.sizes().items():
        absent = [name for name, count in counts[split].items() if not count]
        if size and absent:
            named = ", ".join(absent[:_NAMED]) + (" …" if len(absent) > _NAMED else "")
            sentence = f"{split} has no image of {len(absent):,} of {len(images.classes):,}: {named}"
            found.append(Finding("missing", sentence, score=len(absent) / len(images.classes)))
    return found


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
