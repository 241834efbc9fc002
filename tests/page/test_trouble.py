"""What the page says where there is no answer, and what it does about it."""

import threading
import time

from playwright.sync_api import expect

from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import (
    Asked,
    FakeServer,
    Reply,
    make_model_info,
    make_prediction,
    make_refusal,
    make_reply,
)
from tests.helpers.page_images import choose_files, make_payload

REFUSED = {
    "no picture": (make_refusal(422, "not an image"), "Not an image. Try another image, or other settings."),
    "large": (make_refusal(413, "the body is above 32 MiB"), "The body is above 32 MiB. Make the image smaller"),
    "deadly": (make_refusal(500, "it ended a worker twice"), "It ended a worker twice. Try another image"),
    "odd": (make_refusal(400, "malformed."), "Malformed."),
    "proxy": ((502, {}, "no JSON of ours"), "The server returned status 502 without a reason."),
    "damaged": (make_reply({"filename": None, "error": "damaged or truncated"}), "Damaged or truncated."),
}


def test_a_refusal_is_a_sentence_beside_its_picture(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: (
        REFUSED[asked.body.decode()][0] if len(asked.body) < 20 else make_reply(make_prediction())
    )
    page = open_page(server.address)
    choose_files(page, "good.png", *(make_payload(f"{name}.png", name.encode()) for name in REFUSED))
    for name, (_, sentence) in REFUSED.items():
        card = page.get_by_role("article", name=f"{name}.png")
        expect(card.locator(".problem")).to_contain_text(sentence)
        expect(card.locator(".problem svg")).to_be_visible()
        expect(page.get_by_role("log")).to_contain_text(f"{name}.png: {sentence}")
    expect(page.get_by_role("article", name="good.png").locator(".verdict")).to_contain_text("rose")
    expect(page.get_by_role("article", name="good.png").locator(".problem")).to_be_hidden()


def test_a_refused_picture_can_be_tried_again(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_refusal(504, "it took too long")
    page = open_page(server.address)
    choose_files(page, "rose.png")
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    server.reply = lambda asked: make_reply(make_prediction())
    again.click()
    expect(page.locator(".verdict")).to_contain_text("rose")
    expect(page.locator(".problem")).to_be_hidden()
    expect(again).to_be_hidden()


def test_a_busy_server_is_asked_again_when_it_said(server: FakeServer, open_page: OpenPage) -> None:
    answered = threading.Event()
    times: list[float] = []

    def reply(asked: Asked) -> Reply:
        times.append(time.monotonic())
        status = 503 if asked.body == b"503" else 429
        return (
            make_reply(make_prediction())
            if answered.is_set()
            else make_refusal(status, "come back later", **{"Retry-After": "1"})
        )

    server.reply = reply
    page = open_page(server.address)
    choose_files(page, "a.png", make_payload("b.png", b"503"))
    expect(page.locator(".waiting")).to_have_text(["Come back later. Trying again in 1 second."] * 2)
    answered.set()
    expect(page.locator(".verdict")).to_have_count(2)
    expect(page.locator(".waiting:visible")).to_have_count(0)
    assert times[2] - times[0] >= 0.9


def test_a_server_that_stays_busy_is_given_up(server: FakeServer, open_page: OpenPage) -> None:
    server.reply = lambda asked: make_refusal(429, "the queue is full", **{"Retry-After": "1"})
    page = open_page(server.address)
    page.clock.install()
    choose_files(page, "rose.png")
    for turn in range(1, 5):
        waiting = page.locator(".waiting", has_text="Trying again")
        expect(waiting).to_be_visible()
        assert len(server.asked) == turn
        waiting.evaluate("(line) => line.replaceChildren()")  # or the next turn would not be told from this one
        page.clock.run_for(1_000)
    expect(page.locator(".problem")).to_have_text("The queue is full.")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert len(server.asked) == 5


def test_a_key_is_asked_for_only_where_the_server_wants_one(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    expect(page.get_by_label("API key")).to_be_hidden()
    server.key = "open sesame"
    page.reload()
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(page.get_by_role("alert")).to_have_text("This server asks for its API key.")
    field.fill("wrong")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is not the server’s. Try another.")
    field.fill("open sesame")
    page.get_by_role("button", name="Continue").click()
    choose_files(page, "rose.png")
    expect(page.locator(".verdict")).to_contain_text("rose")
    expect(field).to_be_hidden()
    assert server.asked[0].key == "Bearer open sesame"
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_key_that_changed_is_asked_for_and_the_picture_then_answered(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    server.key = "new"
    choose_files(page, "rose.png")
    page.get_by_label("API key").fill("new")
    page.get_by_label("API key").press("Enter")
    expect(page.locator(".verdict")).to_contain_text("rose")
    expect(page.get_by_label("API key")).to_be_hidden()


def test_a_server_that_is_gone_is_told_beside_the_picture(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    page.context.set_offline(True)
    choose_files(page, "rose.png")
    expect(page.locator(".problem")).to_contain_text("The server does not answer. See whether it still runs")


def test_a_server_without_models_says_so_and_can_be_asked_again(server: FakeServer, open_page: OpenPage) -> None:
    server.models = []
    page = open_page(server.address)
    expect(page.get_by_role("status")).to_contain_text("There is no model")
    server.models = [make_model_info()]
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    expect(page.get_by_role("status")).to_be_hidden()


def test_a_picture_that_is_removed_is_asked_about_no_more(server: FakeServer, open_page: OpenPage) -> None:
    let_go = threading.Event()

    def reply(asked: Asked) -> Reply:
        let_go.wait(10)
        return make_reply(make_prediction())

    server.reply = reply
    page = open_page(server.address)
    choose_files(page, *(f"{i}.png" for i in range(6)))
    while len(server.asked) < 4:
        page.wait_for_timeout(20)
    page.get_by_role("button", name="Remove all").click()
    expect(page.get_by_role("article")).to_have_count(0)
    let_go.set()
    choose_files(page, "last.png")
    expect(page.locator(".verdict")).to_contain_text("rose")
    assert len(server.asked) == 5, "four at once, and the last: those that waited were never sent"


def test_an_answer_to_a_question_that_was_withdrawn_is_none(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    name = page.evaluate(
        """async () => {
          const { retryWhenBusy } = await import("/page/retry.js");
          const asked = new AbortController();
          const late = async () => { asked.abort(); return "an answer"; };
          return retryWhenBusy(late, { signal: asked.signal }).catch((error) => error.name);
        }"""
    )
    assert name == "AbortError"


def test_the_answer_to_an_earlier_question_is_not_shown(server: FakeServer, open_page: OpenPage) -> None:
    let_go = threading.Event()

    def reply(asked: Asked) -> Reply:
        if asked.query.get("coverage") == "0.95":
            let_go.wait(10)
            return make_reply(make_prediction(label="late"))
        return make_reply(make_prediction())

    server.reply = reply
    page = open_page(server.address)
    choose_files(page, "rose.png")
    expect(page.get_by_text("Looking …")).to_be_visible()
    page.get_by_role("radio", name="None").check()
    expect(page.locator(".verdict")).to_contain_text("rose")
    let_go.set()
    page.wait_for_timeout(200)
    expect(page.locator(".verdict")).to_contain_text("rose")
    expect(page.get_by_role("log")).not_to_contain_text("late")
