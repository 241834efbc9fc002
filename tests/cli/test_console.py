"""What a terminal's encoding lacks is written in simpler characters, and never ends the command."""

import io

import pytest

from megavit.cli import console  # noqa: F401 - which knows how to


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", "3 × 4 – R² … │ caf\u00e9", b"3 x 4 - R2 ... | caf\\xe9"),
        ("cp1252", "3 × 4 – R² … │ \u4f60", b"3 \xd7 4 \x96 R\xb2 \x85 | \\u4f60"),
        ("utf-8", "× \udcff", b"\xc3\x97 \\udcff"),
    ],
)
def test_characters_that_a_terminal_lacks_have_others(encoding, text, written):
    content = io.BytesIO()
    with io.TextIOWrapper(content, encoding, errors="megavit.simpler") as stream:
        stream.write(text)
        stream.flush()
        assert content.getvalue() == written
