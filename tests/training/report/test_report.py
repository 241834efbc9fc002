import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from megavit.config.target import Target
from megavit.engine.engine import ModelOutput
from megavit.errors import OutputError
from megavit.evaluation.metrics.classification import ClassificationMetrics, compute_classification_metrics
from megavit.evaluation.metrics.multilabel import compute_multilabel_metrics
from megavit.evaluation.metrics.regression import RegressionMetrics, compute_regression_metrics
from megavit.evaluation.uncertainty.measure import compute_uncertainty
from megavit.evaluation.uncertainty.uncertainty import fit_uncertainty
from megavit.predict.postprocess.postprocess import Calibrator
from megavit.training.history import EpochRecord
from megavit.training.report import figures
from megavit.training.report.figures import DARK, LIGHT, Example
from megavit.training.report.report import DataSummary, Report, percent, write_report
from tests.helpers.baselines import summary

DIGITS = [str(digit) for digit in range(10)]
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$x^{",
    "中文",
    "日本語",
    "a\nb",
    "\udc80",
    "{{ 7 * 7 }}",
]


def example(image, name, truth, top):
    """Of one class."""
    return Example(image=image, name=name, truth=truth, top=top, prediction=top[0][0], is_correct=top[0][0] == truth)


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


def metrics(classes, images=60, strength=3.0):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(len(classes), (images,), generator=generator)
    logits = torch.randn(images, len(classes), generator=generator)
    logits[torch.arange(images), labels] += strength
    return compute_classification_metrics(logits.softmax(dim=1), labels, classes)


def history(epochs):
    return [
        EpochRecord(
            epoch=epoch,
            step=9 * epoch,
            seconds=0.5 * epoch,
            train_loss=2 / epoch,
            val_loss=1.5 / epoch,
            val_metric=1 - 0.5 / epoch,
            learning_rate=1e-3 / epoch,
        )
        for epoch in range(1, epochs + 1)
    ]


def trust(classes, images=80):
    """Of a model that is surer than it may be."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(len(classes), (images,), generator=generator)
    logits = torch.randn(images, len(classes), generator=generator)
    logits[torch.arange(images), labels] += 2
    seen = ModelOutput(logits, 5 * logits)
    fitted, tensors = fit_uncertainty(seen, labels, Target(), (logits, labels))
    return fitted, compute_uncertainty(Calibrator(fitted, tensors, Target(), len(classes)), seen, labels)


def report(classes=DIGITS, **changes):
    test = metrics(classes)
    fitted, trusted = trust(classes)
    pixels, _ = load_digits(return_X_y=True)
    gray = (pixels[:3].reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    whole = Report(
        title="Digits",
        created="2026-11-22T17:20:00+00:00",
        data=DataSummary(
            source="demo:digits",
            division="Divided by us, seed 0.",
            counts={"train": dict.fromkeys(classes, 1200), "test": {one.name: one.images for one in test.per_class}},
            images={"train": 1200 * len(classes), "test": test.images},
            skipped={"not an image (.svg)": 3},
            findings=["Class with few images: <b>5</b> has 3"],
        ),
        model=[("Preset", "pico")],
        recipe_toml='[model]\npreset = "pico"\n',
        environment=[("Device", "cpu")],
        history=history(3),
        test=test,
        val=test,
        calibration=fitted,
        uncertainty=trusted,
        examples=[
            example(image=gray[0], name="a.png", truth=classes[0], top=[(classes[0], 0.9), (classes[1], 0.1)]),
            example(image=gray[1], name="b.png", truth=classes[1], top=[(classes[0], 0.6), (classes[1], 0.4)]),
            example(image=gray[2], name="c.png", truth=classes[1], top=[(classes[0], 0.8), (classes[1], 0.2)]),
        ],
        bundle="runs/demo",
    )
    return replace(whole, **changes)


def page_of(folder, whole):
    return Page(write_report(folder, whole).read_text("utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report"), report()).parent


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text("utf-8"))


def bare(classes=DIGITS[:2], **changes):
    """A report with the confusion matrix alone, by default of two classes, which is quick to draw."""
    whole = report(classes, history=[], examples=[], **changes)
    return replace(whole, uncertainty=replace(whole.uncertainty, uncalibrated=None, calibrated=None))


def one_line(text):
    return " ".join(text.split())


def test_the_headline_says_the_accuracy_in_words_with_its_interval(page):
    test = report().test
    assert isinstance(test, ClassificationMetrics)
    assert (
        f"{percent(test.accuracy.value)} accuracy on 60 test images; with 95% confidence between "
        f"{percent(test.accuracy.low)} and {percent(test.accuracy.high)}"
    ) in one_line(page.text)
    assert "What this does not say" in page.text


def test_every_part_of_the_report_is_on_the_page(page):
    text = one_line(page.text)
    for part in (
        "demo:digits",
        "seed 0.",
        "not an image (.svg)",
        "1,200",
        "pico",
        'preset = "pico"',
        "cpu",
        "0.6667",
        "<b>5</b> has 3",
    ):
        assert part in text
    assert "megavit predict runs/demo photo.jpg" in text
    assert "predictor = megavit.load('runs/demo') print(predictor.predict(\"photo.jpg\").label)" in text


def test_figures_are_written_and_are_pictures(folder):
    written = sorted(path.name for path in (folder / "figures").iterdir())
    assert written == ["confusion.png", "curves.png", "examples.png", "reliability.png"]
    for name in written:
        with Image.open(folder / "figures" / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200


@pytest.fixture(scope="module")
def nasty_folder(tmp_path_factory):
    """A report in which every text is a tag."""
    nasty = NASTY[0]
    whole = report(NASTY, title=nasty, created=nasty, recipe_toml=nasty, bundle=f"runs/{nasty}")
    whole = replace(
        whole,
        model=[(nasty, nasty)],
        environment=[(nasty, nasty)],
        data=replace(whole.data, source=nasty, division=nasty, skipped={nasty: 1}),
        examples=[replace(whole.examples[0], name=nasty)],
    )
    return write_report(tmp_path_factory.mktemp("nasty"), whole).parent


@pytest.fixture(scope="module")
def heat_map_folder(tmp_path_factory):
    """A report on more classes than a matrix names."""
    classes = [f"class {index}" for index in range(31)]
    return write_report(tmp_path_factory.mktemp("heat map"), bare(classes)).parent


@pytest.mark.parametrize("name", ["folder", "nasty_folder", "heat_map_folder"])
def test_the_page_asks_nothing_of_the_network_and_runs_nothing(request, name):
    folder = request.getfixturevalue(name)
    page = Page((folder / "report.html").read_text("utf-8"))
    assert not page.all("script")
    assert not page.all("link")
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "srcset"):
            assert attributes.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
    styles = re.search(r"<style>(.*?)</style>", (folder / "report.html").read_text("utf-8"), re.DOTALL)
    assert styles
    assert not re.search(r"url\(|@import|@font-face", styles[1])
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_names_are_text_wherever_they_stand(nasty_folder):
    written = (nasty_folder / "report.html").read_text("utf-8")
    page = Page(written)
    assert "<script" not in written
    assert page.text.count(NASTY[0]) > 15
    assert "{{ 7 * 7 }}" in page.text
    assert "中文" in page.text


def test_a_path_with_spaces_and_quotes_can_be_pasted(tmp_path):
    text = page_of(tmp_path, bare(bundle="runs/it's mine")).text
    assert """megavit predict 'runs/it'"'"'s mine' photo.jpg""" in text
    assert 'megavit.load("runs/it\'s mine")' in text


@pytest.mark.parametrize("count", [2, 30, 31, 1000])
def test_any_number_of_classes_is_shown(tmp_path, heat_map_folder, count):
    if count == 31:
        page = Page((heat_map_folder / "report.html").read_text("utf-8"))
    else:
        page = page_of(tmp_path, bare([f"class {index}" for index in range(count)]))
    named = any("confusion" in one.get("class", "") for one in page.all("table"))
    assert named == (count <= 30)
    assert any("Heat map" in one["alt"] for one in page.all("img")) == (count > 30)
    assert "Most frequent mistakes" in page.text


def test_a_run_without_epochs_examples_mistakes_or_validation_still_has_its_report(tmp_path):
    perfect = metrics(DIGITS, strength=99.0)
    data = replace(report().data, skipped={})
    page = page_of(tmp_path, report(history=[], examples=[], val=None, test=perfect, data=data))
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"confusion.png", "reliability.png"}
    assert "None: every test image was classified correctly." in page.text
    assert "no mistakes, so no interval" in page.text
    assert "No file was skipped." in page.text
    assert "by which the best epoch was selected" not in page.text
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {one["href"][1:] for one in page.all("a")} <= ids


def test_a_class_without_images_is_a_dash_not_a_number(tmp_path):
    test = compute_classification_metrics(torch.eye(3)[[0, 1]], torch.tensor([0, 1]), ["ant", "bee", "cow"])
    page = page_of(tmp_path, bare(["ant", "bee", "cow"], test=test))
    assert "cow0–––" in "".join(page.text.split())
    assert not re.search(r"\bnan\b", page.text.lower())


def test_mistakes_come_before_right_answers_and_the_surest_first(page):
    text = page.text
    assert text.index("c.png") < text.index("b.png") < text.index("a.png")


def test_pictures_have_a_text_and_follow_the_readers_light_or_dark(page):
    assert all(one.get("alt") for one in page.all("img"))
    assert [one["media"] for one in page.all("source")] == ["(prefers-color-scheme: dark)"] * 3
    assert any(one.get("name") == "viewport" for one in page.all("meta"))


def test_a_large_image_is_made_small_for_the_page(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    shown = example(image=noise, name="big.jpg", truth="0", top=[("0", 1.0)])
    path = write_report(tmp_path, replace(bare(), examples=[shown]))
    assert path.stat().st_size < 900_000


@pytest.mark.parametrize("classes", [NASTY, ["नमस्ते", "\U0010fffd", "\u200b", " "], ["x" * 300, "y" * 300]])
def test_no_class_name_can_break_a_figure(classes):
    for palette in (LIGHT, DARK):
        picture = Image.open(BytesIO(figures.png(figures.draw_confusion(metrics(classes), palette))))
        assert picture.format == "PNG"
    shown = example(image=np.zeros((8, 8), np.uint8), name="x", truth=classes[0], top=[(classes[1], 1.0)])
    assert figures.png(figures.draw_examples([shown], LIGHT))


def test_figures_of_the_same_things_are_the_same_bytes():
    first, second = (figures.png(figures.draw_curves(history(2), LIGHT)) for _ in range(2))
    assert first == second
    assert first != figures.png(figures.draw_curves(history(2), DARK))


def test_a_single_mistake_among_a_thousand_classes_is_visible_on_the_heat_map():
    classes = [f"class {index}" for index in range(1000)]
    labels = torch.arange(1000)
    answers = torch.eye(1000)
    clean = figures.png(figures.draw_confusion(compute_classification_metrics(answers, labels, classes), LIGHT))
    answers[100] = torch.eye(1000)[900]
    stained = figures.png(figures.draw_confusion(compute_classification_metrics(answers, labels, classes), LIGHT))
    before, after = (np.asarray(Image.open(BytesIO(one)).convert("L")).astype(int) for one in (clean, stained))
    assert (before - after).max() > 100


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.float32), np.zeros((3, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_an_example_of_another_kind_is_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        example(image=image, name="x", truth="a", top=[("a", 1.0)])


@given(st.floats(0, 1))
def test_percent_never_rounds_to_all_or_nothing(share):
    value = float(percent(share).removesuffix("%"))
    assert value == pytest.approx(100 * share, abs=0.051)
    if 1e-8 < share < 1 - 1e-8:
        assert 0 < value < 100


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100%"), (0.0, "0%"), (0.986, "98.6%"), (0.99995, "99.995%"), (0.0004, "0.04%")]
)
def test_percent_is_short_where_it_can_be(share, text):
    assert percent(share) == text


def test_a_second_report_replaces_the_first_and_leaves_nothing_else(tmp_path):
    write_report(tmp_path, bare(title="first"))
    write_report(tmp_path, bare(title="second"))
    assert "second" in (tmp_path / "report.html").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "confusion.png",
        "figures",
        "report.html",
    ]


def test_a_report_that_cannot_be_finished_leaves_the_old_one_whole(tmp_path, monkeypatch):
    old = write_report(tmp_path, bare(title="first")).read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OutputError, match="the disk is full: the report"):
        write_report(tmp_path, bare(title="second"))
    monkeypatch.undo()
    assert (tmp_path / "report.html").read_bytes() == old
    assert not [
        path for path in tmp_path.rglob("*") if path.name not in {"report.html", "figures"} and path.parent == tmp_path
    ]


def test_a_folder_that_is_a_file_is_an_error_that_says_so(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"the report could not be written to .*: Not a directory"):
        write_report(tmp_path / "taken", bare())


def test_the_files_have_the_rights_of_any_other_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    page = write_report(tmp_path, bare())
    assert page.stat().st_mode == (tmp_path / "plain").stat().st_mode


def labels_report(**changes):
    random = torch.Generator().manual_seed(0)
    present = torch.rand(60, 3, generator=random) < 0.4
    shares = (torch.randn(60, 3, generator=random) + 2 * present).sigmoid()
    present[:, 2] = False
    names = ["ant", NASTY[0], "cow"]
    test = compute_multilabel_metrics(shares, present, names, [0.5, 0.25, 0.5])
    shown = Example(
        image=np.zeros((8, 8), np.uint8),
        name="x",
        truth="no label",
        top=[("ant", 0.7)],
        prediction="ant",
        is_correct=False,
    )
    data = replace(report().data, counts={"train": dict.fromkeys(names, 7)}, images={"train": 11})
    epochs = [replace(record, metric="mean average precision") for record in history(3)]
    return report(test=test, val=test, examples=[shown], data=data, history=epochs, **changes)


def score_report(**changes):
    random = torch.Generator().manual_seed(0)
    truth = torch.randn(60, generator=random) * 10
    said = truth + torch.randn(60, generator=random)
    test = compute_regression_metrics(said, truth, mean=1.0, median=2.0)
    shown = Example(
        image=np.zeros((8, 8), np.uint8), name="x", truth="3.5", top=[], prediction="7.25", is_correct=False
    )
    data = replace(report().data, counts={"train": {}}, images={"train": 11})
    epochs = [replace(record, metric="R²", val_metric=-9.0 / record.epoch) for record in history(3)]
    scores = (truth.tolist(), said.tolist())
    target = Target(kind="regression", mean=1.0, std=1.0)
    seen = ModelOutput(said[:, None], said[:, None] - 1.0)
    fitted, tensors = fit_uncertainty(seen, truth, target, (seen.pooled, truth))
    trusted = compute_uncertainty(Calibrator(fitted, tensors, target, 0), seen, truth)
    changes = {"calibration": fitted, "uncertainty": trusted} | changes
    return report(test=test, val=test, examples=[shown], data=data, history=epochs, regression=scores, **changes)


@pytest.fixture(scope="module")
def labels_folder(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("labels"), labels_report()).parent


@pytest.fixture(scope="module")
def score_folder(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("score"), score_report()).parent


def test_the_report_of_labels_has_a_row_a_label_and_no_confusion(labels_folder):
    page = Page((labels_folder / "report.html").read_text("utf-8"))
    text = one_line(page.text)
    for part in (
        "mean average precision on 60 test images",
        "Metrics by label",
        NASTY[0],
        "0.25",
        "Validation mean average",
    ):
        assert part in text
    assert "cow0–0.50" in "".join(page.text.split())
    assert "truly no label" in text and ".labels)" in text and "Confusion" not in text
    assert sorted(path.name for path in (labels_folder / "figures").iterdir()) == [
        "curves.png",
        "examples.png",
        "reliability.png",
    ]
    assert "All11" in "".join(page.text.split())


def test_the_report_of_scores_has_a_scatter_and_what_knows_nothing(score_folder):
    whole = score_report()
    page = Page((score_folder / "report.html").read_text("utf-8"))
    text = one_line(page.text)
    assert isinstance(whole.test, RegressionMetrics)
    for part in (
        "mean absolute error on 60 test images",
        f"an error of {whole.test.baseline_mae:.4g}",
        "Largest errors",
        "7.25",
    ):
        assert part in text
    assert "-9" in text and ".score)" in text and "Confusion" not in text
    assert any("True values against predictions" in one["alt"] for one in page.all("img"))
    names = sorted(path.name for path in (score_folder / "figures").iterdir())
    assert names == ["curves.png", "examples.png", "scores.png"]
    assert "Prediction intervals" in text and "Calibration of the probabilities" not in text


@pytest.mark.parametrize("name", ["labels_folder", "score_folder"])
def test_every_link_of_the_other_reports_leads_somewhere(request, name):
    page = Page((request.getfixturevalue(name) / "report.html").read_text("utf-8"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {one["href"][1:] for one in page.all("a")} <= ids
    assert not re.search(r"\b(nan|None)\b", page.text)
    assert not page.all("script")


def test_baselines_have_a_table_and_one_that_is_not_surpassed_stands_above_the_result(tmp_path):
    page = page_of(tmp_path, bare(baselines=summary(100, 90, 180)))
    text = one_line(page.text)
    warning = text.index("The model is worse than a logistic regression on thumbnails: 50.0% against 90.0%")
    assert warning < text.index("accuracy on 60 test images") < text.rindex("Against simple baselines")
    assert "nearest neighbors on thumbnails45.0%+5.0" in text
    ahead = one_line(page_of(tmp_path, bare(baselines=summary(190, 90))).text)
    assert "The model is worse" not in ahead and "Against simple baselines" in ahead
