"""The server answers only those with the token, and takes nothing that is not as the page sends it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.helpers.label_server import LabelServer, label_server, write_images

HOSTILE = '<img src=x onerror="alert(1)">.png'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    folder = write_images(tmp_path_factory.mktemp("app"), ["a.png", "sub/b.png", HOSTILE, "line\nbreak.png"])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xffno image")
    (folder / "notes.txt").write_text("no image either")
    with label_server(folder) as served:
        yield served


@pytest.fixture
def client(server: LabelServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address) as client:
        yield client


def index_of(server: LabelServer, name: str) -> int:
    return server.session.images.names.index(name)


def stroke(number: int, image: int, **changes: Any) -> dict[str, Any]:
    return {"stroke": f"{number:08}", "status": "labeled", "labels": ["cat"], "marks": [{"image": image}]} | changes


@pytest.mark.parametrize("path", ["", "x/", "api/session", "thumbnails/0"])
def test_nothing_is_answered_without_the_token(server: LabelServer, path: str) -> None:
    root = server.address.rsplit("/", 2)[0]
    for prefix in ("/", "/wrong/", f"/{server.address.split('/')[-2][:-1]}/"):
        answer = httpx.get(root + prefix + path)
        assert answer.status_code == 403
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_name_that_leads_to_this_machine_is_refused(client: httpx.Client) -> None:
    assert client.get("", headers={"host": "attacker.example"}).status_code == 421


def test_a_page_of_another_site_cannot_write(client: httpx.Client) -> None:
    answer = client.post("api/strokes", json=stroke(1, 0), headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_every_answer_is_under_a_strict_policy(client: httpx.Client) -> None:
    for path in ("", "page/label.js", "page/style.css", "api/session", "thumbnails/0"):
        headers = client.get(path).raise_for_status().headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_images_are_listed_whatever_their_names_but_for_line_breaks(server: LabelServer, client: httpx.Client) -> None:
    session = client.get("api/session").json()
    assert sorted(session["names"]) == sorted([HOSTILE, "a.png", "broken.jpg", "sub/b.png"])
    assert session["left_out"] == 1


def test_thumbnails_are_made_once_and_kept(server: LabelServer, client: httpx.Client) -> None:
    index = index_of(server, "sub/b.png")
    first = client.get(f"thumbnails/{index}")
    assert first.headers["content-type"] == "image/jpeg"
    (kept,) = (server.folder / ".megavit" / "thumbnails").glob(f"{server.session.thumbnails.key(index)}*")
    kept.write_bytes(b"kept")
    assert client.get(f"thumbnails/{index}").content == b"kept"
    kept.unlink()
    assert client.get(f"thumbnails/{index}").content == first.content


def test_an_image_that_cannot_be_read_is_said_to_be_so(server: LabelServer, client: httpx.Client) -> None:
    for kind in ("thumbnails", "previews"):
        answer = client.get(f"{kind}/{index_of(server, 'broken.jpg')}")
        assert answer.status_code == 422
        assert "cannot be shown" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"labels": []}, "one class"),
        ({"labels": ["cat", "dog"]}, "--multilabel"),
        ({"labels": ["CAT"]}, "looks like 'cat'"),
        ({"labels": ["a\nb"]}, "visible characters"),
        ({"labels": ["a|b"]}, "several"),
        ({"labels": [" "]}, "empty"),
        ({"labels": ["nan"]}, "missing value"),
        ({"status": "skipped"}, "only an image that is labeled"),
        ({"status": "else"}, "status"),
        ({"stroke": "../../etc"}, "stroke"),
        ({"marks": []}, "marks"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_stroke_that_cannot_be_is_refused(
    server: LabelServer, client: httpx.Client, changes: dict[str, Any], part: str
) -> None:
    answer = client.post("api/strokes", json=stroke(2, 0) | changes)
    assert answer.status_code == 422
    assert part in answer.json()["error"]["message"]
    assert all(one.stroke != "00000002" for one in server.session.store.decisions)


def test_an_image_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    assert client.post("api/strokes", json=stroke(3, 99)).status_code == 404
    for path in ("thumbnails/99", "previews/99", "thumbnails/-1", "nothing", "page/nothing.js", "page/../app.py"):
        assert client.get(path).status_code == 404
    assert client.get("api/undo").status_code == 405


def test_a_large_request_is_refused(client: httpx.Client) -> None:
    answer = client.post("api/strokes", json=stroke(4, 0, marks=[{"image": 0}] * 400_000))
    assert answer.status_code == 413


def test_a_stroke_is_refused_if_another_window_was_first(server: LabelServer, client: httpx.Client) -> None:
    image = index_of(server, HOSTILE)
    before = client.get("api/changes").json()
    client.post("api/strokes", json=stroke(5, image, labels=["<b>"])).raise_for_status()
    late = client.post("api/strokes", json=stroke(6, image))
    assert late.status_code == 409
    news = client.get("api/changes", params={"generation": before["generation"], "since": before["since"]}).json()
    mine = {"image": image, "status": "labeled", "labels": ["<b>"], "stroke": "00000005"}
    assert mine in news["decisions"]
    assert news["classes"] == ["cat", "dog", "<b>"]
    undone = client.post("api/undo", json={"stroke": "00000007", "undone": "00000005"}).raise_for_status().json()
    assert {"image": image, "status": "unlabeled", "labels": [], "stroke": "00000007~00000005"} in undone["decisions"]
