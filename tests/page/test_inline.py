"""What a notebook shows of results: escaped, without scripts and requests."""

import re
from pathlib import Path

import megavit
from megavit.page.inline import bars, block, data_uri, heading, line, picture, table, warning
from tests.helpers.bundles import make_bundle
from tests.helpers.labeled_images import make_scene

NASTY = "<script>alert('1')</script> & \udce9"


def test_every_text_is_escaped() -> None:
    html = block(heading(NASTY), line(NASTY), warning(NASTY), bars([(NASTY, 0.5, NASTY)]), table([(NASTY, NASTY)]))
    assert html.count("&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt; &amp; ?") == 7
    assert "<script" not in html
    html.encode()


def test_bars_are_as_long_as_their_shares() -> None:
    assert re.findall(r"; width: ([\d.]+%)", bars([("a", 1.0, ""), ("b", 0.25, ""), ("c", 0.0, "")])) == [
        "100.0%",
        "25.0%",
        "0.0%",
    ]


def test_a_prediction_shows_bars_set_and_mark() -> None:
    prediction = megavit.Prediction(
        top=(("cat", 0.75), ("<b>dog", 0.25)), prediction_set=(("cat", 0.75),), out_of_distribution=True
    )
    html = prediction._repr_html_()
    assert "cat, 75.0%" in html and "&lt;b&gt;dog" in html and "width: 25.0%" in html
    assert "prediction set: cat" in html and "unlike the training images" in html
    assert "unlike" not in megavit.Prediction(top=(("cat", 1.0),), out_of_distribution=False)._repr_html_()
    assert "no label" in megavit.Prediction(top=(("cat", 0.1),), assigned=())._repr_html_()
    number = megavit.Prediction(value=3.25, interval=(3.0, 3.5))._repr_html_()
    assert "3.25" in number and "interval: 3 to 3.5" in number


def test_an_explanation_shows_its_picture_inside(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    explanation = megavit.explain_image(megavit.load(tmp_path / "bundle"), make_scene(0))
    html = explanation._repr_html_()
    assert html.count("<img ") == 1 and data_uri(explanation.overlay()) in html
    assert str(explanation.label) in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)


def test_a_picture_has_a_text_for_those_who_cannot_see_it() -> None:
    from PIL import Image

    assert 'alt="&quot;x"' in picture(Image.new("L", (2, 2)), '"x')
