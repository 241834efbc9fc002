"""A server that stands in for ours."""

from collections.abc import Iterator

import pytest

from tests.helpers.fake_server import FakeServer, serve_fake


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    with serve_fake(fake) as address:
        fake.address = address
        yield fake
