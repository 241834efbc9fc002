"""Every way in which a picture can come."""

import base64
import io

from PIL import Image
from playwright.sync_api import Page, expect

from tests.helpers.browser import OpenPage
from tests.helpers.fake_server import FakeServer
from tests.helpers.page_images import choose_files, encode_image, make_noise, make_payload

PICTURE = encode_image(make_noise(seed=3))

# What a person does outside the page, a drag from the desktop or a copy in another program, has to be made up.
TRANSFER = """
async ([kind, target, name, content]) => {
  const transfer = new DataTransfer();
  if (content === null) transfer.setData("text/plain", "https://example.org/rose.png");
  else {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: transfer })
    : new DragEvent(kind, { ...options, dataTransfer: transfer });
  document.querySelector(target).dispatchEvent(event);
  return event.defaultPrevented;
}
"""


def transfer(page: Page, kind: str, content: bytes | None = PICTURE, target: str = "body") -> bool:
    coded = None if content is None else base64.b64encode(content).decode()
    return page.evaluate(TRANSFER, [kind, target, "moved.png", coded])


def test_several_files_chosen_at_once_give_a_card_each_in_their_order(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    choose_files(page, "a.png", "b.png")
    choose_files(page, "c.png")
    expect(page.locator(".verdict")).to_have_count(3)
    expect(page.get_by_role("article").get_by_role("heading")).to_have_text(["c.png", "a.png", "b.png"])


def test_the_same_file_can_be_chosen_twice(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    choose_files(page, "a.png")
    choose_files(page, "a.png")
    expect(page.get_by_role("article")).to_have_count(2)


def test_a_file_dropped_anywhere_is_asked_about(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    assert transfer(page, "dragover")
    expect(page.locator("body")).to_have_class("dragging")
    assert transfer(page, "drop", target="header"), "the browser would leave the page for the picture"
    expect(page.locator("body")).to_have_class("")
    expect(page.get_by_role("article", name="moved.png").locator(".verdict")).to_contain_text("rose")
    assert server.asked[0].body == PICTURE


def test_a_link_that_is_dropped_is_told_to_be_no_file(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    assert transfer(page, "drop", content=None)
    expect(page.locator("#notice")).to_have_text(
        "What was dropped is not a file: save the image first, then drop its file."
    )
    choose_files(page, "a.png")
    expect(page.locator("#notice")).to_be_empty()


def test_a_picture_is_pasted(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    transfer(page, "paste")
    expect(page.get_by_role("article", name="moved.png").locator(".verdict")).to_contain_text("rose")
    assert server.asked[0].body == PICTURE


def test_a_picture_of_the_real_clipboard_is_pasted_by_keys(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address, permissions=["clipboard-read", "clipboard-write"])
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    page.evaluate(
        """async (content) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const item = new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) });
          await navigator.clipboard.write([item]);
        }""",
        base64.b64encode(PICTURE).decode(),
    )
    page.keyboard.press("Control+v")
    expect(page.locator(".verdict")).to_contain_text("rose")
    assert Image.open(io.BytesIO(server.asked[0].body)).size == (32, 24)


def test_a_clipboard_without_a_picture_is_told(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    transfer(page, "paste", content=None)
    expect(page.locator("#notice")).to_contain_text("There is no image on the clipboard")


def test_the_camera_takes_a_picture_and_is_off_afterwards(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address, permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    shutter = page.get_by_role("button", name="Take the image")
    expect(shutter).to_be_focused()
    track = page.evaluate_handle("document.querySelector('video').srcObject.getTracks()[0]")
    assert track.evaluate("(track) => track.readyState") == "live"
    shutter.click()
    expect(page.get_by_role("article", name="camera 1.png").locator(".verdict")).to_contain_text("rose")
    assert track.evaluate("(track) => track.readyState") == "ended"
    expect(page.get_by_role("region", name="Camera")).to_be_hidden()
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
    taken = Image.open(io.BytesIO(server.asked[0].body)).convert("RGB")
    assert taken.width >= 320
    assert len(taken.getcolors(2**24) or []) > 1, "a picture of one color was not taken from the camera"


def test_escape_closes_the_camera(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address, permissions=["camera"])
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("button", name="Take the image")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("region", name="Camera")).to_be_hidden()
    assert page.evaluate("document.querySelector('video').srcObject") is None
    assert server.asked == []


def test_a_camera_that_is_refused_says_what_to_do(server: FakeServer, open_page: OpenPage) -> None:
    page = open_page(server.address)
    page.evaluate(
        """() => {
          navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", "NotAllowedError"); };
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#notice")).to_contain_text("Allow it for this page")
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()


def test_a_picture_that_the_browser_cannot_show_is_asked_about_all_the_same(
    server: FakeServer, open_page: OpenPage
) -> None:
    page = open_page(server.address)
    tiff = encode_image(make_noise(), "TIFF")
    choose_files(page, make_payload("scan.tif", tiff))
    card = page.get_by_role("article", name="scan.tif")
    expect(card.locator(".verdict")).to_contain_text("rose")
    expect(card).to_contain_text("No preview")
    assert server.asked[0].body == tiff
