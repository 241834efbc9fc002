import asyncio
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from megavit.serving.workers.protocol import encode_header, read_message, read_message_async

text = st.text('a"\\é☃\n')  # of any characters, Hypothesis would build a table of them all
json_objects = st.dictionaries(text, st.none() | st.booleans() | st.integers() | text)
messages = st.lists(st.tuples(json_objects, st.binary(max_size=200)), max_size=5)


def written(sent: list[tuple[dict[str, Any], bytes]]) -> bytes:
    return b"".join(encode_header(header, len(body)) + body for header, body in sent)


@given(messages)
def test_messages_are_read_as_sent(sent: list[tuple[dict[str, Any], bytes]]) -> None:
    stream = io.BytesIO(written(sent))
    assert [read_message(stream) for _ in sent] == sent
    assert read_message(stream) is None


@given(messages.filter(bool), st.data())
def test_a_truncated_stream_ends_after_its_last_complete_message(
    sent: list[tuple[dict[str, Any], bytes]], data: st.DataObject
) -> None:
    whole = written(sent)
    cut = data.draw(st.integers(len(written(sent[:-1])), len(whole) - 1))

    async def read() -> list[object]:
        stream = asyncio.StreamReader()
        stream.feed_data(whole[:cut])
        stream.feed_eof()
        return [await read_message_async(stream) for _ in sent]

    file = io.BytesIO(whole[:cut])
    assert [read_message(file) for _ in sent] == [*sent[:-1], None] == asyncio.run(read())
