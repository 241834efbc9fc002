"""What the page shows of an answer, of each kind."""

import base64
import re

from playwright.sync_api import expect

from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import FakeServer, make_model_info, make_prediction, make_refusal, make_reply, make_top
from tests.helpers.page_images import choose_files, make_payload


def test_a_picture_gets_its_class_with_probability_set_and_bars(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_reply(make_prediction(prediction_set=make_top(rose=0.9312, tulip=0.0603)))
    page = open_page(server.address)
    choose_files(page, "rose.png")
    card = page.get_by_role("article", name="rose.png")
    expect(card.get_by_text("93.1%").first).to_be_visible()
    expect(card).to_contain_text("With 95% coverage: rose, tulip")
    rows = card.get_by_role("list", name="Likeliest classes").get_by_role("listitem")
    expect(rows).to_have_text(["rose 93.1%", "tulip 6.0%", "daisy 0.9%"])
    expect(card.get_by_role("img", name="rose.png")).to_be_visible()
    assert server.asked[0].query == {"top": "5", "coverage": "0.95"}
    assert server.asked[0].body == make_payload()["buffer"]


def test_bars_are_as_long_as_their_shares(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address, reduced_motion="reduce")
    choose_files(page, "rose.png")
    fill = page.locator(".bars i").first
    expect(fill).to_be_visible()
    share = fill.evaluate("(bar) => bar.getBoundingClientRect().width / bar.parentNode.getBoundingClientRect().width")
    assert abs(share - 0.9312) < 0.01


def test_a_coverage_can_be_chosen_and_asks_again(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_reply(make_prediction(prediction_set=make_top(rose=0.9312)))
    page = open_page(server.address)
    choose_files(page, "rose.png")
    expect(page.get_by_role("article")).to_contain_text("With 95% coverage: rose")
    page.get_by_role("radio", name="99%").check()
    expect(page.get_by_role("article")).to_contain_text("With 99% coverage: rose")
    server.reply = lambda asked: make_reply(make_prediction())
    page.get_by_role("radio", name="None").check()
    expect(page.get_by_role("article").get_by_text("coverage")).to_have_count(0)
    assert [asked.query.get("coverage") for asked in server.asked] == ["0.95", "0.99", None]


def test_a_model_without_coverages_offers_none(server: FakeServer, open_page: OpenPage) -> None:
    server.models = [make_model_info(coverages=[], explanation=False)]
    page = open_page(server.address)
    choose_files(page, "rose.png")
    expect(page.get_by_text("93.1%").first).to_be_visible()
    expect(page.get_by_role("group", name="Coverage")).to_be_hidden()
    expect(page.get_by_role("button", name="Explain")).to_be_hidden()
    assert "coverage" not in server.asked[0].query


def test_a_large_set_is_folded(server: FakeServer, open_page: OpenPage) -> None:
    members = {f"class{i}": 0.05 for i in range(20)}
    server.reply = lambda asked: make_reply(make_prediction(prediction_set=make_top(**members)))
    page = open_page(server.address)
    choose_files(page, "rose.png")
    expect(page.get_by_text("class19")).to_be_hidden()
    page.get_by_text("and 12 others").click()
    expect(page.get_by_text("class19")).to_be_visible()


def test_what_is_unlike_training_is_marked_in_words(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_reply(make_prediction(out_of_distribution=True))
    page = open_page(server.address)
    choose_files(page, "rose.png")
    card = page.get_by_role("article")
    expect(card.get_by_text("Unlike the training images: this prediction means little.")).to_be_visible()
    expect(card.locator(".mark svg")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("Unlike the training images")


def test_several_labels_are_given_with_their_probabilities(server: FakeServer, open_page: OpenPage) -> None:
    server.models = [make_model_info(target="multilabel", coverages=[])]
    top = make_top(sea=0.9, boat=0.75, sky=0.2)
    server.reply = lambda asked: make_reply({"filename": None, "labels": make_top(sea=0.9, boat=0.75), "top": top})
    page = open_page(server.address)
    choose_files(page, "harbour.png")
    expect(page.locator(".verdict")).to_have_text("sea 90.0% boat 75.0%")
    expect(page.get_by_role("list", name="Likeliest labels").get_by_role("listitem")).to_have_count(3)
    server.reply = lambda asked: make_reply({"filename": None, "labels": [], "top": top})
    choose_files(page, "desert.png")
    expect(page.get_by_role("article", name="desert.png")).to_contain_text("None of the labels")


def test_a_score_has_its_interval(server: FakeServer, open_page: OpenPage) -> None:
    server.models = [make_model_info(target="regression", labels=[])]
    server.reply = lambda asked: make_reply({"filename": None, "score": 3.14159, "interval": [2.5, 3.75]})
    page = open_page(server.address)
    choose_files(page, "leaf.png")
    expect(page.locator(".verdict")).to_have_text("3.142")
    expect(page.get_by_role("article")).to_contain_text("With 95% coverage: 2.5 to 3.75")
    expect(page.get_by_role("list", name=re.compile("Likeliest"))).to_have_count(0)
    expect(page.get_by_role("group", name="Coverage")).to_contain_text("How often the true score is in the range given")


def test_certainty_is_never_claimed(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_reply(make_prediction(probability=1.0, top=make_top(rose=1.0, tulip=0.0)))
    page = open_page(server.address)
    choose_files(page, "rose.png")
    expect(page.locator(".bars li")).to_have_text(["rose > 99.9%", "tulip < 0.1%"])


def test_an_explanation_is_shown_beside_the_picture_and_hidden_again(server: FakeServer, open_page: OpenPage) -> None:
    png = base64.b64encode(make_payload()["buffer"]).decode()
    server.reply = lambda asked: make_reply(
        make_prediction(explanation=png) if "explanation" in asked.query else make_prediction()
    )
    page = open_page(server.address)
    choose_files(page, "rose.png")
    page.get_by_role("button", name="Explain").click()
    overlay = page.get_by_role("img", name="Explanation of rose.png")
    expect(overlay).to_be_visible()
    assert overlay.evaluate("(image) => image.complete && image.naturalWidth") == 32
    assert server.asked[-1].query["explanation"] == "true"
    page.get_by_role("button", name="Hide the explanation").click()
    expect(overlay).to_have_count(0)
    expect(page.get_by_role("button", name="Explain", exact=True)).to_be_focused()


def test_an_explanation_that_fails_leaves_the_answer(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: (
        make_refusal(504, "it took too long") if "explanation" in asked.query else make_reply(make_prediction())
    )
    page = open_page(server.address)
    choose_files(page, "rose.png")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("It took too long. Try again, or make the image smaller.").first).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("rose")
    expect(page.get_by_role("button", name="Explain")).to_be_enabled()


def test_several_models_can_be_chosen_among(server: FakeServer, open_page: OpenPage) -> None:
    server.models = [make_model_info("flowers"), make_model_info("garden birds", labels=["tit", "robin"])]
    page = open_page(server.address)
    choose_files(page, "rose.png")
    expect(page.get_by_text("93.1%").first).to_be_visible()
    server.reply = lambda asked: make_reply(make_prediction(label="tit", top=make_top(tit=0.8, robin=0.2)))
    page.get_by_role("combobox", name="Model").select_option("garden birds")
    expect(page.locator(".verdict")).to_contain_text("tit")
    assert [asked.model for asked in server.asked] == ["flowers", "garden%20birds"]
    assert page.title() == "garden birds · megavit"


def test_names_from_anywhere_stay_text(server: FakeServer, open_page: OpenPage) -> None:
    bad = "<img src=x onerror=\"document.title='run'\">"
    server.models = [make_model_info(bad, labels=[bad])]
    server.reply = lambda asked: make_reply(
        make_prediction(
            label=bad, top=[{"label": bad, "probability": 0.9}], prediction_set=[{"label": bad, "probability": 0.9}]
        )
    )
    page = open_page(server.address)
    choose_files(page, f"{bad}.png")
    expect(page.locator(".verdict strong")).to_have_text(bad)
    expect(page.locator("h3")).to_have_text(f"{bad}.png")
    expect(page.locator('img[src="x"]')).to_have_count(0)
    assert page.title() == f"{bad} · megavit"
