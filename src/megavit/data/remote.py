"""Read byte ranges from HTTP servers and other stores, which may be slow, broken or hostile."""

import asyncio
import atexit
import ipaddress
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import httpx

from megavit.errors import DataError, MegavitError

TIMEOUT_SECONDS = 20.0  # timeout to connect, and between two chunks of a response
GRACE_SECONDS, MIN_BYTES_PER_SECOND = 40.0, 2**14
"""Time limit of a response, and the rate at which received bytes extend it, against servers that trickle bytes."""
MAX_REDIRECTS = 5
_MAX_DIGITS = 15
_RETRY_SECONDS = (0.2, 1.0, 4.0)  # seconds between retries; an overloaded store refuses some requests

T = TypeVar("T")


class RefusedError(OSError):
    """A failed request that would fail again."""


def fetch_range(url: str, offset: int, size: int) -> bytes:
    """Return up to `size` bytes from `offset` on; fewer at the end of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if the request fails; `RefusedError` if it would fail again.
        DataError: if the store misbehaves.
    """
    if not size:
        return b""
    if not _is_http(url):
        return _retry(lambda: _read_store(url, offset, size))
    return _retry(lambda: _session(os.getpid()).run(_get(_session(os.getpid()), Request("GET", url, offset, size))))


def fetch_size(url: str) -> int:
    """Return the size of a file in bytes; errors are those of `fetch_range`."""
    if not _is_http(url):
        return _retry(lambda: _store_size(url))
    return _retry(lambda: _session(os.getpid()).run(_head(_session(os.getpid()), Request("HEAD", url))))


def _retry(request: Callable[[], T]) -> T:
    for seconds in _RETRY_SECONDS:
        try:
            return request()
        except (FileNotFoundError, RefusedError):
            raise
        except OSError:
            time.sleep(seconds)
    return request()


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a file's bytes or size."""

    method: str
    url: str
    offset: int = 0
    size: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {"Range": f"bytes={self.offset}-{self.offset + self.size - 1}"} if self.method == "GET" else {}


class Session:
    """An HTTP client of one process, in a thread of its own, so that every wait can time out.

    Attributes:
        public: whether the first response of each host came from a public address.
    """

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"})
        self.public: dict[str, bool] = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        self.run(self.client.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@cache
def _session(_process: int) -> Session:
    """Return the session of a process, since a forked child must not share connections."""
    session = Session()
    atexit.register(session.close)
    return session


def close_session() -> None:
    """Close the connections of this process; the next request opens new ones."""
    session = _session(os.getpid())
    _session.cache_clear()
    atexit.unregister(session.close)
    session.close()


async def _get(session: Session, request: Request) -> bytes:
    code, _, data = await _send(session, request)
    return b"" if code == 416 else data  # the range begins beyond the end


async def _head(session: Session, request: Request) -> int:
    _, headers, _ = await _send(session, request)
    size = headers.get("content-length", "")
    if not size.isdecimal() or len(size) > _MAX_DIGITS:
        raise RefusedError("the server does not report its size: copy the shards to a local folder")
    return int(size)


async def _send(session: Session, request: Request) -> tuple[int, httpx.Headers, bytes]:
    url = request.url
    start = asyncio.get_running_loop().time()
    try:
        location = httpx.URL(url)
        async with asyncio.timeout(GRACE_SECONDS) as limit:
            for _ in range(MAX_REDIRECTS + 1):
                async with session.client.stream(request.method, location, headers=request.headers) as response:
                    _check_address(session, url, location, response)
                    if response.has_redirect_location:
                        location = _redirect_target(url, location, response)
                        continue
                    _check_status(url, response)
                    data = bytearray()
                    if request.method == "GET" and response.status_code != 416:
                        _check_partial(request, response)
                        # Compressed data could expand to any size, so it is not decoded.
                        async for chunk in response.aiter_raw():
                            data += chunk
                            if len(data) > request.size:  # a server that ignores the range sends other bytes
                                raise DataError(
                                    f"the server of {url!r} sends more bytes than requested: copy the shards to a "
                                    "local folder"
                                )
                            limit.reschedule(start + GRACE_SECONDS + len(data) / MIN_BYTES_PER_SECOND)
                    return response.status_code, response.headers, bytes(data)
            raise DataError(
                f"the server of {url!r} redirects more than {MAX_REDIRECTS} times: pass the final URLs of the files"
            )
    except TimeoutError as error:
        raise DataError(
            f"the server of {url!r} is too slow, or its response never ends: it sent less than "
            f"{MIN_BYTES_PER_SECOND // 2**10} KiB per second; copy the shards to a local folder"
        ) from error
    except httpx.InvalidURL as error:
        raise RefusedError(f"invalid URL: {error}") from error
    except httpx.HTTPError as error:
        raise OSError(_first_line(error)) from error


def _check_status(url: str, response: httpx.Response) -> None:
    code = response.status_code
    if code in (404, 410):
        raise FileNotFoundError(url)
    if code not in (200, 206, 416):
        message = f"the server responded with {code} {response.reason_phrase}".strip()
        raise OSError(message) if code >= 500 or code == 429 else RefusedError(message)


def _check_partial(request: Request, response: httpx.Response) -> None:
    # A range that covers the full file may come back with status 200.
    is_full_file = request.offset == 0 and response.headers.get("content-length") == str(request.size)
    if response.status_code != 206 and not is_full_file:
        raise DataError(
            f"the server of {request.url!r} does not support range requests: copy the shards to a local folder"
        )


def _redirect_target(url: str, current: httpx.URL, response: httpx.Response) -> httpx.URL:
    """Return the target of a redirect, which must be on the same server, or on the same host with TLS."""
    try:
        target = current.join(response.headers["location"])
    except httpx.InvalidURL as error:
        raise RefusedError(f"the server redirects to an invalid URL: {error}") from error
    is_upgrade = (current.scheme, target.scheme, current.port, target.port) == ("http", "https", None, None)
    if target.host != current.host or not (
        is_upgrade or (target.scheme, target.port) == (current.scheme, current.port)
    ):
        raise DataError(
            f"the server of {url!r} redirects to another server, {target.host!r}, which is not followed: pass the URLs "
            "there if you trust that server, or copy the shards to a local folder"
        )
    return target


def _check_address(session: Session, url: str, location: httpx.URL, response: httpx.Response) -> None:
    """Refuse a private address for a host that had a public one (DNS rebinding)."""
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    if not isinstance(address, tuple):
        return
    is_public = ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global
    if session.public.setdefault(location.host, is_public) and not is_public:
        raise DataError(
            f"the server of {url!r} had a public address and now has the private address {address[0]}, which is "
            "refused: copy the shards to a local folder"
        )


@contextmanager
def _store(url: str) -> Iterator[tuple[Any, str]]:
    """Yield fsspec's file system for a URL and the path within it, converting errors to OSErrors."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DataError(f"{url!r} cannot be read: {error}") from error
    except Exception as error:  # each store has errors of its own
        raise RefusedError(_first_line(error)) from error
    try:
        yield store, path
    except PermissionError as error:
        raise RefusedError(f"permission denied ({_first_line(error)})") from error
    except (OSError, MegavitError):
        raise
    except Exception as error:  # each store has errors of its own
        raise OSError(_first_line(error)) from error


def _read_store(url: str, offset: int, size: int) -> bytes:
    with _store(url) as (store, path):
        return store.cat_file(path, start=offset, end=offset + size)


def _store_size(url: str) -> int:
    with _store(url) as (store, path):
        size = store.size(path)
        if size is None:
            raise RefusedError("the store does not report its size")
        return int(size)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
