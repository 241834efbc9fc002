"""The report of an evaluation has every part that was requested, escapes every text and requests nothing."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from megavit.config.target import Target, TargetKind
from megavit.data.dataset import LabeledImages, Sample
from megavit.engine.engine import ModelOutput
from megavit.evaluation.compare import PairedOutputs, compare_outputs, find_disagreements
from megavit.evaluation.evaluation import Evaluation
from megavit.evaluation.inference import SplitSelection
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import compute_metrics
from megavit.evaluation.report.page import MAX_EXAMPLES, collect_confusions
from megavit.evaluation.robustness.robustness import CorruptionResult, Robustness
from megavit.evaluation.subgroups import compute_subgroups
from megavit.evaluation.uncertainty.measure import compute_uncertainty
from megavit.evaluation.uncertainty.uncertainty import fit_uncertainty
from megavit.predict.postprocess.postprocess import Calibrator

NASTY = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}")
TARGETS = {
    "classification": Target(),
    "multilabel": Target(kind="multilabel", thresholds=[0.5] * 3),
    "regression": Target(kind="regression"),
}


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def make_evaluation(kind: TargetKind = "classification", names=NASTY, count=60, channels=3, extras=True) -> Evaluation:
    random = torch.Generator().manual_seed(0)
    width = len(names)
    match kind:
        case "classification":
            truth = torch.randint(width, (count,), generator=random)
            answers = (torch.randn(2, count, width, generator=random) + 2 * torch.eye(width)[truth]).softmax(dim=2)
            targets = truth.tolist()
        case "multilabel":
            truth = torch.rand(count, width, generator=random) < 0.5
            answers = (torch.randn(2, count, width, generator=random) + truth).sigmoid()
            targets = [tuple(torch.nonzero(row).flatten().tolist()) for row in truth]
        case _:
            truth = torch.randn(count, generator=random)
            answers, names = truth + torch.randn(2, count, generator=random), ()
            targets = truth.tolist()
    pictures = torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8, generator=random)
    samples = tuple(Sample(f"<b>{i}</b>.png", target, "test", 8, 8, channels, "") for i, target in enumerate(targets))
    memory = {sample.name: picture for sample, picture in zip(samples, pictures, strict=True)}
    images = LabeledImages("t.csv", None, tuple(names), samples, (), "", memory, kind)
    target = TARGETS[kind]
    if kind == "multilabel":
        target = replace(target, thresholds=[0.5] * width)
    metrics = compute_metrics(answers[0], truth, names, target)
    said = answers[0] if kind != "regression" else answers[0][:, None]
    seen = ModelOutput(said, said.log() if kind == "classification" else said)
    fitted, tensors = fit_uncertainty(seen, truth, target, (said, truth))
    trust = compute_uncertainty(Calibrator(fitted, tensors, target, len(names)), seen, truth)
    if not extras:
        return Evaluation(
            images, SplitSelection(samples, 0, "test"), answers[0], metrics, fitted, trust, None, (), None, None
        )
    pair = PairedOutputs(answers[0], answers[1], truth, target, target)
    comparison, changed = compare_outputs(pair), find_disagreements(pair, names, samples)
    groups = compute_subgroups("<i>", ["<u>" if i % 2 else "b" for i in range(count)], answers[0], truth, kind)
    some = Interval(0.5, 0.4, 0.6)
    robustness = Robustness(
        comparison.differences[0].metric, 50, count, some, (CorruptionResult("fog", (some,) * 5, some),), some
    )
    chosen = SplitSelection(samples, 2, "test")
    return Evaluation(
        images, chosen, answers[0], metrics, fitted, trust, comparison, tuple(changed), groups, robustness
    )


def page_of(folder, evaluation, **changes):
    options = {"bundle": "runs/<a>", "against": "runs/b", "precision": "float32"} | changes
    return Page(replace(evaluation, **options).write_report(folder / "page.html").read_text("utf-8"))


@pytest.mark.parametrize("kind", TARGETS)
def test_each_kind_of_target_has_its_page_with_every_part(tmp_path, kind):
    evaluation = make_evaluation(kind)
    page = page_of(tmp_path, evaluation)
    text = " ".join(page.text.split())
    for part in (
        "Evaluation of runs/<a>",
        "A is runs/<a>, B is runs/b",
        "By <i>",
        "<u>",
        "Robustness to corruptions",
        "fog",
    ):
        assert part in text
    assert f"{len(evaluation.disagreements)} images predicted differently" in text
    assert ("Most frequent mistakes" in text) == (kind == "classification")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {one["href"][1:] for one in page.all("a")} <= ids
    assert {"result", "comparison", "subgroups", "robustness", "data"} <= ids
    assert not re.search(r"\b(nan|None)\b", page.text)


@pytest.mark.parametrize("kind", TARGETS)
def test_what_was_not_requested_is_left_out(tmp_path, kind):
    page = page_of(tmp_path, make_evaluation(kind, extras=False), against="")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert not ids & {"comparison", "subgroups", "robustness"}
    assert {one["href"][1:] for one in page.all("a")} <= ids


def test_nothing_of_the_users_becomes_markup_and_nothing_leaves_the_page(tmp_path):
    page = page_of(tmp_path, make_evaluation())
    assert not page.all("script")
    assert not [one for _, one in page.tags if any(key.startswith("on") for key in one)]
    assert all(one["src"].startswith("data:image/png;base64,") for one in page.all("img"))
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_confusions_are_the_most_frequent_with_the_most_confident_examples_first(channels):
    evaluation = make_evaluation(count=200, channels=channels)
    found = collect_confusions(evaluation.metrics, evaluation.outputs, evaluation.images, evaluation.selection.samples)
    assert [one.count for one in found] == sorted((one.count for one in found), reverse=True)
    said = evaluation.outputs.argmax(dim=1)
    for one in found:
        true, answer = NASTY.index(one.truth), NASTY.index(one.predicted)
        assert true != answer
        truth = torch.tensor([sample.label for sample in evaluation.selection.samples])
        assert one.count == int(((truth == true) & (said == answer)).sum())
        assert one.class_images == int((truth == true).sum())
        assert len(one.examples) == min(MAX_EXAMPLES, one.count)
        assert [shown.probability for shown in one.examples] == sorted(
            (shown.probability for shown in one.examples), reverse=True
        )
        for shown in one.examples:
            place = next(i for i, sample in enumerate(evaluation.selection.samples) if sample.name == shown.name)
            assert (int(truth[place]), int(said[place])) == (true, answer)
            pixels = evaluation.images.load_pixels(evaluation.selection.samples[place]).numpy()
            assert np.array_equal(np.atleast_3d(shown.pixels)[..., 0], pixels[0])


def test_a_perfect_model_has_no_confusions(tmp_path):
    evaluation = make_evaluation(extras=False)
    truth = torch.tensor([sample.label for sample in evaluation.selection.samples])
    answers = torch.eye(3)[truth]
    perfect = replace(evaluation, outputs=answers, metrics=compute_metrics(answers, truth, NASTY, Target()))
    assert "None: every image was predicted correctly." in page_of(tmp_path, perfect).text


def test_many_classes_have_no_table_of_all_but_their_confusions(tmp_path):
    names = tuple(f"class {i}" for i in range(40))
    page = page_of(tmp_path, make_evaluation(names=names, count=120, extras=False))
    assert not [one for one in page.all("table") if one.get("class") == "confusion"]
    assert "predicted as" in page.text
