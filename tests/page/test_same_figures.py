"""The page's pixels and figures beside Python's; its predictions are in tests/page/test_predictions_parity.py."""

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from megavit.data.image_dataset import convert_channels
from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import FakeServer


@pytest.fixture
def page(server: FakeServer, open_page: OpenPage) -> Page:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    return page


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
          const { percent, formatNumber, count, coverageText, sentence } = await import("/page/format.js");
          return [
            [0, 0.0004, 0.0005, 0.5, 0.99949, 0.9995, 1].map(percent),
            [0, -0.000123456, 3.14159, -999.96, 12345.6].map(formatNumber),
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
