"""A server that stands in for ours."""

from collections.abc import Iterator

import pytest

from tests.helpers.fake_server import FakeServer, serve_fake


@pytest.fixture
def server() -> Iterator[FakeServer]:
    stand_in = FakeServer()
    with serve_fake(stand_in) as address:
        stand_in.address = address
        yield stand_in
