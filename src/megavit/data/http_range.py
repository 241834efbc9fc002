"""Parts of files from HTTP servers, which may be slow, broken, or out to reach what only this machine can reach."""

import asyncio
import atexit
import ipaddress
import os
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

import httpx

from megavit.data.byte_range import Refused
from megavit.errors import DataError

TIMEOUT_SECONDS = 20.0
"""For a connection, and between two pieces of an answer."""
GRACE_SECONDS, MIN_BYTES_PER_SECOND = 40.0, 2**14
"""An answer may take so long in all, and longer by what it brings: a byte every now and then is no answer."""
MAX_REDIRECTS = 5
_MOST_DIGITS = 15

T = TypeVar("T")


def http_range(url: str, offset: int, size: int) -> bytes:
    """Return up to `size` bytes from `offset` on; fewer where the file ends.

    Raises:
        FileNotFoundError: where there is no such file.
        OSError: where the server does not answer; `Refused`, where it would not the next time either.
        DataError: where it answers other than it should.
    """
    return _session(os.getpid()).run(_range(_session(os.getpid()), url, offset, size))


def http_size(url: str) -> int:
    """Return the bytes of a file. Raises as `http_range`."""
    return _session(os.getpid()).run(_size(_session(os.getpid()), url))


class Session:
    """Connections of one process, which a thread of their own serves, so that every wait has an end.

    Attributes:
        public: of each host, whether its first answer came from a public address.
    """

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"})
        self.public: dict[str, bool] = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        self.run(self.client.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@cache
def _session(_process: int) -> Session:
    """One for each process: a connection must not be shared with a child."""
    session = Session()
    atexit.register(session.close)
    return session


def close_session() -> None:
    """Close this process's connections; the next request opens new ones."""
    session = _session(os.getpid())
    _session.cache_clear()
    atexit.unregister(session.close)
    session.close()


async def _range(session: Session, url: str, offset: int, size: int) -> bytes:
    code, _, data = await _answer(session, "GET", url, {"Range": f"bytes={offset}-{offset + size - 1}"}, offset, size)
    return b"" if code == 416 else data  # the range begins beyond the end


async def _size(session: Session, url: str) -> int:
    _, headers, _ = await _answer(session, "HEAD", url, {}, 0, 0)
    size = headers.get("content-length", "")
    if not size.isdecimal() or len(size) > _MOST_DIGITS:
        raise Refused("the server does not say how large it is; copy the shards here")
    return int(size)


async def _answer(
    session: Session, method: str, url: str, headers: dict[str, str], offset: int, size: int
) -> tuple[int, httpx.Headers, bytes]:
    """Return status, headers and body of the server's answer."""
    began = asyncio.get_running_loop().time()
    try:
        where = httpx.URL(url)
        async with asyncio.timeout(GRACE_SECONDS) as limit:
            for _ in range(MAX_REDIRECTS + 1):
                async with session.client.stream(method, where, headers=headers) as answer:
                    _check_address(session, url, where, answer)
                    if answer.has_redirect_location:
                        where = _redirected(url, where, answer)
                        continue
                    _check_status(url, answer)
                    data = bytearray()
                    if method == "GET" and answer.status_code != 416:
                        _check_part(url, answer, offset, size)
                        # Raw: what is compressed all the same could be of any size.
                        async for piece in answer.aiter_raw():
                            data += piece
                            if len(data) > size:  # its beginning need not be what was asked for
                                raise DataError(
                                    f"the server of {url!r} sends more than it is asked for; copy the shards here"
                                )
                            limit.reschedule(began + GRACE_SECONDS + len(data) / MIN_BYTES_PER_SECOND)
                    return answer.status_code, answer.headers, bytes(data)
            raise DataError(f"the server of {url!r} sends on and on; name the files where they are")
    except TimeoutError as error:
        raise DataError(
            f"the server of {url!r} is too slow, or never ends: less than {MIN_BYTES_PER_SECOND // 2**10} KiB a second "
            "came; copy the shards here"
        ) from error
    except httpx.InvalidURL as error:
        raise Refused(f"no URL: {error}") from error
    except httpx.HTTPError as error:
        raise OSError((str(error) or type(error).__name__).splitlines()[0]) from error


def _check_status(url: str, answer: httpx.Response) -> None:
    code = answer.status_code
    if code in (404, 410):
        raise FileNotFoundError(url)
    if code not in (200, 206, 416):
        fault = f"the server answers {code} {answer.reason_phrase}".strip()
        raise OSError(fault) if code >= 500 or code == 429 else Refused(fault)


def _check_part(url: str, answer: httpx.Response, offset: int, size: int) -> None:
    # A file as a whole may be given as the range that it is.
    whole = offset == 0 and answer.headers.get("content-length") == str(size)
    if answer.status_code != 206 and not whole:
        raise DataError(f"the server of {url!r} does not answer for parts of a file; copy the shards here")


def _redirected(url: str, here: httpx.URL, answer: httpx.Response) -> httpx.URL:
    """Return where the answer sends on to: the same server, or the same host by TLS."""
    try:
        there = here.join(answer.headers["location"])
    except httpx.InvalidURL as error:
        raise Refused(f"the server sends on to what is no URL: {error}") from error
    encrypted = (here.scheme, there.scheme, here.port, there.port) == ("http", "https", None, None)
    if there.host != here.host or not (encrypted or (there.scheme, there.port) == (here.scheme, here.port)):
        raise DataError(
            f"the server of {url!r} sends on to another, {there.host!r}, which is not followed: name the files where "
            "they are, if you trust that server, or copy the shards here"
        )
    return there


def _check_address(session: Session, url: str, where: httpx.URL, answer: httpx.Response) -> None:
    """Refuse the answer of a private address for a host that was public: its name has been turned to point inwards."""
    stream = answer.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    if not isinstance(address, tuple):
        return
    public = ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global
    if session.public.setdefault(where.host, public) and not public:
        raise DataError(
            f"the server of {url!r} was at a public address and is now at {address[0]}, within this network, which is "
            "not read; copy the shards here"
        )
