"""A server that stands in for ours."""

from collections.abc import Iterator

import pytest

from tests.helpers.fake_server import StandIn, serving


@pytest.fixture
def server() -> Iterator[StandIn]:
    stand_in = StandIn()
    with serving(stand_in) as address:
        stand_in.address = address
        yield stand_in
