"""A request without a query takes a shorter way, on which everything is as it is with one."""

import pytest

from tests.helpers.servers import Running
from tests.serving.test_limits import FILE, multipart

FORM, FORM_HEADERS = multipart(FILE, FILE)
BODIES = {
    "an image": (b"image", {}),
    "no image": (b"", {}),
    "a bad image": (b"bad", {}),
    "a form": (FORM, FORM_HEADERS),
    "a form that is none": (b"nothing", FORM_HEADERS),
    "too large": (bytes(200_001), {}),
}


@pytest.mark.parametrize("body", BODIES)
def test_with_and_without_a_query_the_response_is_the_same(stub: Running, body: str) -> None:
    content, headers = BODIES[body]
    short, long = (stub.post(content, path, headers=headers) for path in ("/predict", "/predict?top=5"))
    assert short.status_code == long.status_code and short.json() == long.json()
    names = [[name for name in reply.headers if name != "x-request-id"] for reply in (short, long)]
    assert names[0] == names[1]


def test_both_ways_are_counted_as_one_route(stub: Running) -> None:
    def count() -> float:
        return stub.metric("megavit_requests_total", route="/predict", method="POST", status="200")

    before = count()
    assert stub.post(b"image").status_code == stub.post(b"image", "/predict?top=5").status_code == 200
    assert stub.post(b"image", "/predict/").status_code == 404
    stub.until(lambda: count() == before + 2)


def test_an_invalid_query_is_still_refused(stub: Running) -> None:
    assert stub.post(b"image", "/predict?top=none").status_code == 422
