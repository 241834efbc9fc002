"""The page without a mouse, without sight, in the dark, and on a small screen."""

from playwright.sync_api import Page, expect

from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import FakeServer, make_model_info, make_prediction, make_refusal, make_reply, make_top
from tests.helpers.page_colors import CONTRASTS
from tests.helpers.page_images import choose_files, make_payload

LONG = "Dactylorhiza_maculata_subspecies_with_a_name_that_never_ends_and_cannot_be_broken"


def fill(server: FakeServer, page: Page) -> None:
    """A page with an answer, a marked one, and an error."""
    marked = make_prediction(
        out_of_distribution=True,
        label=LONG,
        top=make_top(**{LONG: 0.9, "rose": 0.1}),
        prediction_set=make_top(**{LONG: 0.9}),
    )
    replies = {b"bad": make_refusal(422, "not an image"), b"odd": make_reply(marked)}
    server.reply = lambda asked: replies.get(asked.body, make_reply(make_prediction(prediction_set=make_top(rose=0.9))))
    choose_files(page, "rose.png", make_payload(f"{LONG}.png", b"odd"), make_payload("bad.png", b"bad"))
    expect(page.locator(".verdict")).to_have_count(2)
    expect(page.locator(".problem:visible")).to_have_count(1)


def test_everything_can_be_done_by_keyboard(server: FakeServer, open_page: OpenPage) -> None:
    server.models = [make_model_info("flowers"), make_model_info("birds")]
    page = open_page(server.address)
    page.on("filechooser", lambda _: None)  # early: Chromium must know that it is to ask us before a key is pressed
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()

    def tab_to(role: str, name: str) -> None:
        page.keyboard.press("Tab")
        found = page.get_by_role(role, name=name, exact=True).first  # pyrefly: ignore[bad-argument-type]
        expect(found).to_be_focused()
        outlined = found.evaluate(
            """(one) => [one, one.nextElementSibling]
              .some((part) => part && getComputedStyle(part).outlineStyle !== "none")"""
        )
        assert outlined, f"the focus on {name} cannot be seen"

    tab_to("combobox", "Model")
    tab_to("button", "3 classes")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="classes")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("list", name="classes")).to_be_hidden()
    tab_to("button", "Choose images")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([make_payload("a.png"), make_payload("b.png")])
    expect(page.locator(".verdict")).to_have_count(2)
    tab_to("button", "Use the camera")
    tab_to("radio", "95%")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="99%")).to_be_checked()
    tab_to("button", "Remove all")
    tab_to("button", "Explain")
    tab_to("button", "Remove")
    page.keyboard.press("Space")
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page.get_by_role("article", name="b.png").get_by_role("button", name="Remove")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Choose images")).to_be_focused()


def test_trying_again_keeps_the_focus_in_the_card(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_refusal(422, "not an image")
    page = open_page(server.address)
    choose_files(page, "rose.png")
    page.get_by_role("button", name="Try again").press("Enter")
    expect(page.get_by_role("article").get_by_role("button", name="Remove")).to_be_focused()


def test_each_answer_is_said_once(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    spoken = page.get_by_role("log")
    expect(spoken).to_be_empty()
    server.reply = lambda asked: make_reply(make_prediction(prediction_set=make_top(rose=0.9, tulip=0.06)))
    choose_files(page, "rose.png")
    expect(spoken.locator("p")).to_have_text(["rose.png: rose, 93.1%. With 95% coverage: rose, tulip."])
    server.models = [make_model_info(target="regression", labels=[])]
    server.reply = lambda asked: make_reply({"filename": None, "score": 12.5, "interval": [10, 15]})
    page.reload()
    choose_files(page, "leaf.png")
    expect(spoken.locator("p")).to_have_text(["leaf.png: score 12.5. With 95% coverage: 10 to 15."])


def test_the_page_has_its_landmarks_and_names(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    fill(server, page)
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.get_by_role("banner").get_by_role("heading", level=1)).to_have_text("megavit")
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("region", name="Predictions").get_by_role("listitem")).not_to_have_count(0)
    expect(page.get_by_role("group", name="Coverage").get_by_role("radio")).to_have_count(4)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, img")]
          .filter((one) => one.checkVisibility() && !(one.innerText || one.alt || one.labels?.length || one.ariaLabel))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_every_text_has_enough_contrast_in_light_and_in_dark(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address, reduced_motion="reduce")
    fill(server, page)
    papers = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 25
        assert [pair for pair in contrasts if pair[0] < 4.5] == [], scheme
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2


def test_nothing_is_wider_than_the_screen(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    fill(server, page)
    for width in (320, 420, 1000, 1920):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        beyond = page.evaluate(
            """() => [...document.querySelectorAll("article *, button, .segments")]
              .filter((one) => one.checkVisibility() && !one.closest("h3"))
              .filter((one) => one.getBoundingClientRect().right > innerWidth)
              .map((one) => one.outerHTML)"""
        )
        assert beyond == [], width


def test_nothing_moves_for_those_who_ask_for_that(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address, reduced_motion="reduce")
    fill(server, page)
    bar = page.locator(".bars i").first
    assert bar.evaluate("(bar) => getComputedStyle(bar).animationName") == "none"
    page.emulate_media(reduced_motion="no-preference")
    assert bar.evaluate("(bar) => getComputedStyle(bar).animationName") == "grow"
