"""The rules from outputs to predictions, in Python, in the page's JavaScript and in the script beside an export."""

import io
import textwrap
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from megavit.config.target import TargetKind
from megavit.exporting.docs.example_script import PRINT_MARK, PRINT_PREDICTION
from megavit.predict.postprocess.predictions import DecisionRule, cumulative_mass_above, make_predictions
from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import FakeServer


@dataclass
class Case:
    """One image's outputs, with the metadata that an export carries."""

    outputs: dict[str, Any]
    metadata: dict[str, Any]

    def expected(self, top: int, coverage: float | None) -> dict[str, Any]:
        target: TargetKind = self.metadata["target"]
        sets, intervals = (self.metadata[name] or {} for name in ("sets", "intervals"))
        limits = sets.get(str(coverage))
        rule = DecisionRule(
            target=target,
            labels=self.metadata["labels"],
            thresholds=self.metadata["thresholds"],
            ood_threshold=self.metadata["ood_threshold"],
            set_limits=None if limits is None else np.array(limits),
            interval_half_width=intervals.get(str(coverage)),
        )
        return make_predictions({name: values[None] for name, values in self.outputs.items()}, rule, top)[0].to_dict()


def make_cases() -> list[Case]:
    """Probabilities with ties, zeros, many classes, and limits and thresholds on the very values; scores; distances."""
    random = np.random.default_rng(0)
    rows = [random.dirichlet(np.full(classes, 0.3)) for classes in (2, 3, 10, 1000) for _ in range(6)]
    rows += [np.full(7, 1 / 7), np.array([0.5, 0.5, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])]
    rows += [np.round(random.dirichlet(np.ones(12)), 1) for _ in range(8)]
    cases = []
    for index, row in enumerate(rows):
        probabilities = row.astype(np.float32)
        on_value = random.random(len(row)) < 0.5
        limits = np.where(on_value, cumulative_mass_above(probabilities[None])[0], 0.5)
        thresholds = np.where(on_value & (row > 0), row, 0.25)  # not rounded to float32, as the probabilities are
        outputs = {"probabilities": probabilities, "distance": np.float32(0.1 * (index % 6))}
        labels = [f"label {place}" for place in range(len(row))]
        metadata = {"labels": labels, "ood_threshold": 0.1 * (index % 4) if index % 2 else None}
        empty: dict[str, Any] = {"thresholds": [], "sets": None, "intervals": None}
        sets = {"sets": {"0.9": limits.tolist()}}
        cases.append(Case(outputs, empty | metadata | sets | {"target": "classification"}))
        cases.append(Case(outputs, empty | metadata | {"thresholds": thresholds.tolist(), "target": "multilabel"}))
    for score, distance in ((-3.25, 0.0), (1e6, 2.0), (0.1, 1.0)):
        outputs = {"score": np.float32(score), "distance": np.float32(distance)}
        metadata = {"target": "regression", "labels": [], "thresholds": [], "sets": None, "intervals": {"0.9": 2.125}}
        cases.append(Case(outputs, metadata | {"ood_threshold": 1.0}))
    return cases


CASES = make_cases()


@pytest.mark.parametrize("coverage", [None, 0.9])
def test_the_page_predicts_as_python(coverage: float | None, server: FakeServer, open_page: OpenPage) -> None:
    page: Page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    cases = [case for case in CASES if coverage is None or case.metadata["target"] != "multilabel"]
    found = page.evaluate(
        """async ([cases, options]) => {
          const { makePrediction } = await import("/page/predictions.js");
          return cases.map(([outputs, metadata]) => {
            const arrays = Object.entries(outputs).map(([name, values]) => [name, Float32Array.from(values)]);
            return makePrediction(Object.fromEntries(arrays), metadata, options);
          });
        }""",
        [
            [
                [{name: np.atleast_1d(values).tolist() for name, values in case.outputs.items()}, case.metadata]
                for case in cases
            ],
            {"top": 5, "coverage": coverage},
        ],
    )
    assert found == [case.expected(5, coverage) for case in cases]


def test_the_script_beside_an_export_predicts_as_python() -> None:
    for case in CASES:
        target, about = case.metadata["target"], case.metadata
        script = (PRINT_MARK if about["ood_threshold"] is not None else '    mark = ""\n') + PRINT_PREDICTION[target]
        printed = io.StringIO()
        outputs = {name: values[None] for name, values in case.outputs.items()}
        names = {"about": about, "path": "a.png", "outputs": outputs}
        with redirect_stdout(printed):
            exec(textwrap.dedent(script), names)
        expected = case.expected(5, None)
        if target == "regression":
            text = f"{expected['score']:.6g}"
        elif target == "classification":
            text = f"{expected['label']} {expected['probability']:.1%}"
        else:
            in_order = sorted(expected["labels"], key=lambda one: about["labels"].index(one["label"]))
            text = ", ".join(f"{one['label']} {one['probability']:.1%}" for one in in_order) or "none"
        mark = " (unlike the training images: not reliable)" if expected.get("out_of_distribution") else ""
        assert printed.getvalue() == f"a.png: {text}{mark}\n"
