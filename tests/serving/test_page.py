"""The page, from the server itself, in a real browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from megavit.page import static_folder
from tests.helpers.browser import OpenPage
from tests.helpers.page_images import choose_files
from tests.helpers.servers import Running, stub_server


def test_the_page_and_its_files_come_with_their_types_and_a_strict_policy(stub: Running) -> None:
    kinds = {
        "": "text/html",
        "page/page.js": "text/javascript",
        "page/style.css": "text/css",
        "page/icon.svg": "image/svg",
    }
    for path, kind in kinds.items():
        reply = stub.get(f"/{path}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(kind)
        assert reply.content == (static_folder() / (path.removeprefix("page/") or "index.html")).read_bytes()
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert reply.headers["permissions-policy"] == "camera=(self)"


@pytest.mark.parametrize("path", ["/page/", "/page/..%2f__init__.py", "/page/static/page.js", "/page//etc/passwd"])
def test_no_other_file_is_served(stub: Running, path: str) -> None:
    assert stub.get(path).status_code == 404


def test_an_image_is_predicted_in_a_browser(server: Running, open_page: OpenPage) -> None:
    page = open_page(f"{server.address}/")
    choose_files(page, "a.png")
    card = page.get_by_role("article")
    expect(card).to_contain_text("newt")
    card.get_by_role("button", name="Explain").click()
    expect(card.get_by_role("img")).to_have_count(2)


def test_with_a_key_the_page_asks_for_it(folder: Path, open_page: OpenPage) -> None:
    with stub_server(folder, api_key="sesame") as server:
        page = open_page(f"{server.address}/")
        page.get_by_label("API key").fill("sesame")
        page.get_by_label("API key").press("Enter")
        choose_files(page, "a.png")
        expect(page.get_by_role("article")).to_contain_text("cat")
        assert "sesame" not in json.dumps(server.log)
