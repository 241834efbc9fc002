"""Let only those in who have the token, which is the first part of every path of the address."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from megavit.serving.errors import ApiError
from megavit.serving.http.middleware import error_response

MAX_BODY_BYTES = 4 * 2**20
"""Maximum size of a request: a stroke on 20,000 images takes about two."""

_TOO_LARGE = ApiError(413, "the request is too large: select fewer images")


class TokenAccess:
    """ASGI middleware that removes the token from the path, and refuses requests without it and those that are large.

    Every address within the page is relative, and so has the token without a script or cookie, which another program
    on this machine could share.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            path = self._check(scope)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:  # announced by nobody
                raise _TOO_LARGE
            return message

        await self._app({**scope, "path": path}, receive_within_limit, send)

    def _check(self, scope: Scope) -> str:
        """Return the path behind the token, or raise an ApiError."""
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self._token):
            raise ApiError(403, "open the whole address that megavit label has printed, with its token")
        if int(Headers(scope=scope).get("content-length", 0)) > MAX_BODY_BYTES:
            raise _TOO_LARGE
        return f"/{rest}"
