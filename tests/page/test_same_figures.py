"""The page's arithmetic beside Python's, on what models rarely but may give."""

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from megavit.data.image_dataset import convert_channels
from megavit.predict.postprocess.conformal import cumulative_mass_above
from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import StandIn


@pytest.fixture
def page(server: StandIn, open_page: OpenPage) -> Page:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose pictures")).to_be_visible()
    return page


def test_ranks_and_sets_are_pythons_with_ties_and_many_classes(page: Page) -> None:
    draws = np.random.default_rng(0)
    rows = [draws.dirichlet(np.full(classes, 0.3)) for classes in (2, 3, 10, 1000) for _ in range(10)]
    rows += [np.full(7, 1 / 7), np.array([0.5, 0.5, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])]
    rows += [np.round(draws.dirichlet(np.ones(12)), 1) for _ in range(10)]
    for row in rows:
        probabilities = torch.from_numpy(row.astype(np.float32))
        masses = cumulative_mass_above(probabilities[None])[0]
        # Limits on the very masses: of two sums that differ in the last bit, one would be outside.
        limits = torch.where(torch.from_numpy(draws.random(len(row)) < 0.5), masses, torch.tensor(0.5).double())
        order = probabilities.argsort(descending=True, stable=True).tolist()
        found = page.evaluate(
            """async ([probabilities, limits]) => {
              const { answerOf } = await import("/page/answers.js");
              const labels = probabilities.map((_, place) => `${place}`);
              const metadata = { target: "classification", labels, sets: { "0.9": limits }, ood_threshold: null };
              const options = { top: 5, coverage: 0.9 };
              return answerOf({ probabilities: Float32Array.from(probabilities) }, metadata, options);
            }""",
            [probabilities.tolist(), limits.tolist()],
        )
        assert [one["label"] for one in found["top"]] == [str(place) for place in order[:5]]
        inside = [str(place) for place in order if masses[place] <= limits[place]]
        assert [one["label"] for one in found["prediction_set"]] == inside
        assert found["probability"] == probabilities.max().item()


def test_gray_is_pillows(page: Page) -> None:
    colors = np.random.default_rng(1).integers(0, 256, (3, 4096), dtype=np.uint8)
    colors[:, :3] = [[0, 255, 1], [0, 255, 254], [0, 255, 127]]
    rgba = np.concatenate([colors, np.full((1, 4096), 255, np.uint8)]).T.ravel()
    found = page.evaluate(
        """async (rgba) => {
          const { luma } = await import("/page/pixels.js");
          const gray = new Uint8Array(rgba.length / 4);
          luma(rgba, gray);
          return [...gray];
        }""",
        rgba.tolist(),
    )
    assert found == convert_channels(torch.from_numpy(colors)[:, None], 1).flatten().tolist()


def test_figures_are_written_for_people(page: Page) -> None:
    written = page.evaluate(
        """async () => {
          const { percent, figure, count, coverageText, sentence } = await import("/page/words.js");
          return [
            [0, 0.0004, 0.0005, 0.5, 0.99949, 0.9995, 1].map(percent),
            [0, -0.000123456, 3.14159, -999.96, 12345.6].map(figure),
            [count(1, "class", "classes"), count(1000, "class", "classes")],
            [0.9, 0.95, 0.995].map(coverageText),
            ["not an image", "Too large!", " cut short. "].map(sentence),
          ];
        }"""
    )
    assert written == [
        ["< 0.1%", "< 0.1%", "0.1%", "50.0%", "99.9%", "> 99.9%", "> 99.9%"],
        ["0", "-0.0001235", "3.142", "-1,000", "12,346"],
        ["1 class", "1,000 classes"],
        ["90%", "95%", "99.5%"],
        ["Not an image.", "Too large!", "Cut short."],
    ]
