"""Sizes as people write them."""

import pytest

from megavit.cli.commands.shard import parse_bytes
from megavit.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "expected"),
    [("256MB", 256_000_000), ("1.5 GB", 1_500_000_000), ("64MiB", 2**26), ("100kb", 100_000), ("4096", 4096)],
)
def test_a_size_is_read_in_its_unit(size, expected):
    assert parse_bytes(size) == expected


@pytest.mark.parametrize("size", ["", "MB", "-1MB", "1e9", "256 apples", "1TB2", "½GB", "nan"])
def test_anything_else_is_refused(size):
    with pytest.raises(ConfigError, match="--shard-size must be a number of bytes such as 256MB or 1GiB"):
        parse_bytes(size)
