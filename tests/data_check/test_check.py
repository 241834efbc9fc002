import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from megavit.data.dataset import Skipped
from megavit.data_check.check import run_checks
from megavit.data_check.finding import KINDS, Finding, sort_by_severity
from megavit.data_check.label_issues import OutOfFoldPredictions
from megavit.data_check.report import (
    COLUMNS,
    MAX_FINDINGS,
    MAX_IMAGES,
    PAGE,
    TABLE,
    check_output_folder,
    render_csv,
    render_html,
    write_report,
)
from megavit.errors import OutputError
from tests.helpers.labeled_images import make_labeled_images, make_scene

NASTY = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\nb", "\udc80.png", "{{ 7 * 7 }}", "猫"]


def quiet(what, done, total):
    assert done <= total


def faulty():
    """Thirty images of two classes with nasty names: a leak, a near copy, an empty picture and a wrong label."""
    pictures = [make_scene(seed) for seed in range(30)]
    pictures[1] = pictures[0]
    pictures[3] = (pictures[2] * 0.9).to(torch.uint8)
    pictures[4] = torch.full((3, 48, 48), 9, dtype=torch.uint8)
    targets = [place % 2 for place in range(30)]
    targets[1] = 0
    targets[10] = 1
    splits = ["train"] * 30
    splits[1] = "test"
    names = [NASTY[place] if place < len(NASTY) else f"{place}.png" for place in range(30)]
    return make_labeled_images(
        pictures, targets, splits, classes=NASTY[:2], names=names, skipped=[Skipped("\udcff.jpg", "the file is empty")]
    )


def answers():
    truth = torch.tensor([place % 2 for place in range(30)])
    truth[1] = 0
    shares = torch.full((30, 2), 0.02)
    shares[torch.arange(30), truth] = 0.98
    return OutOfFoldPredictions(shares, torch.arange(30), "a judge")


@pytest.fixture(scope="module")
def checked():
    return run_checks(faulty(), answers(), quiet)


def test_all_is_found_the_sort_by_severity(checked):
    found = [(one.kind, one.images) for one in checked.findings if one.severity != "info"]
    assert found[:6] == [
        ("leak", (NASTY[0], NASTY[1])),
        ("label_conflict", (NASTY[2], NASTY[3])),
        ("unreadable", ("\udcff.jpg",)),
        ("label_error", ("10.png",)),
        ("blank", (NASTY[4],)),
        ("duplicate", (NASTY[2], NASTY[3])),
    ]
    assert checked.is_serious and checked.label_review.agreement == 29 / 30


def test_a_sound_set_has_no_serious_finding():
    images = make_labeled_images([make_scene(seed) for seed in range(40)], [place % 2 for place in range(40)])
    checked = run_checks(images, None, quiet)
    assert checked.findings == [] and not checked.is_serious and checked.label_review is None


def test_every_kind_has_a_rank_and_scores_count_within_it():
    kinds = list(KINDS)
    found = sort_by_severity([Finding(kind, "", score=score) for kind in reversed(kinds) for score in (0.1, 0.9)])
    assert [one.kind for one in found[::2]] == kinds and all(one.score == 0.9 for one in found[::2])


def test_the_table_has_a_line_for_each_image_to_load_thumbnails_and_survives_any_name(checked):
    text = render_csv(checked).decode("utf-8", "surrogateescape")
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(header) == COLUMNS
    by_kind = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}
    assert by_kind["leak"]["image"] == NASTY[1] and by_kind["leak"]["other_image"] == NASTY[0]
    assert by_kind["leak"]["score"] == "1.0000" and by_kind["leak"]["label"] == NASTY[0]
    assert by_kind["label_error"]["label"] == NASTY[1] and by_kind["label_error"]["suggested_label"] == NASTY[0]
    assert by_kind["unreadable"]["image"] == "\udcff.jpg" and by_kind["unreadable"]["label"] == ""
    assert [row[0] for row in rows][:3] == ["leak", "label_conflict", "unreadable"]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_runs_nothing_asks_nobody_and_escapes_every_name(checked):
    text = render_html(checked).decode()
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags and "link" not in tags
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert pictures and all(one["src"].startswith("data:image/") for one in pictures)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"https?://|url\(|@import", text)
    assert NASTY[0] in page.text and NASTY[4] in page.text
    (policy,) = [one["content"] for tag, one in page.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_a_pair_is_shown_side_by_side(checked):
    text = render_html(checked).decode()
    leak = text.split('<section id="leak">')[1].split("</section>")[0]
    assert leak.count("<img") == 2 and "· train" in leak and "· test" in leak


def test_the_page_says_why_labels_were_not_judged_and_when_nothing_was_found():
    images = make_labeled_images([make_scene(seed) for seed in range(40)], [place % 2 for place in range(40)])
    text = render_html(replace(run_checks(images, None, quiet), skip_reason="there is <no> time")).decode()
    assert "there is &lt;no&gt; time" in text and "No problems found" in text


def test_the_page_stays_short_where_much_is_wrong():
    pictures = [torch.full((1, 8, 8), 7, dtype=torch.uint8)] * 50 + [make_scene(0), make_scene(1)]
    checked = run_checks(make_labeled_images([*pictures[:30], *(make_scene(s) for s in range(2, 12))]), None, quiet)
    text = render_html(checked).decode()
    blank = text.split('<section id="blank">')[1].split("</section>")[0]
    assert blank.count("<img") == MAX_FINDINGS and f"{30 - MAX_FINDINGS} more in check.csv" in blank
    assert '<section id="duplicate">' not in text  # they are copies of each other, which says no more


def test_a_large_group_of_copies_shows_a_few():
    text = render_html(run_checks(make_labeled_images([make_scene(0)] * 30 + [make_scene(1)]), None, quiet)).decode()
    copies = text.split('<section id="duplicate">')[1].split("</section>")[0]
    assert copies.count("<img") == MAX_IMAGES and f"and {30 - MAX_IMAGES} more" in copies


def test_both_files_are_written_to_a_new_folder_outside_the_data(checked, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    check_output_folder(tmp_path / "out", str(data))
    write_report(tmp_path / "out", checked)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [TABLE, PAGE]
    with pytest.raises(OutputError, match="not empty"):
        check_output_folder(tmp_path / "out", str(data))
    with pytest.raises(OutputError, match="is inside the data folder"):
        check_output_folder(data / "out", str(data))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another path"):
        check_output_folder(tmp_path / "file", str(data))
