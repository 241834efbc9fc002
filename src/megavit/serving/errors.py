"""Error responses of the HTTP API."""

from http import HTTPStatus

from megavit.errors import MegavitError

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "content_too_large",
    414: "uri_too_long",
    421: "misdirected_request",
    422: "unprocessable_content",
    429: "too_many_requests",
    431: "request_header_fields_too_large",
    500: "internal_server_error",
    503: "service_unavailable",
    504: "gateway_timeout",
}
"""HTTP's names for the statuses (RFC 9110); those of `http.HTTPStatus` differ between Python versions."""


class ApiError(MegavitError):
    """An error response of the HTTP API.

    Args:
        message: sentence that says what is wrong and what to do.
        retry_after: seconds after which the client may try again.
        allow: allowed HTTP methods.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, allow: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.retry_after, self.allow = retry_after, allow

    @property
    def code(self) -> str:
        return CODES.get(self.status, "error")

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return headers if self.allow is None else headers | {"allow": self.allow}

    def to_dict(self) -> dict[str, dict[str, str]]:
        return {"error": {"code": self.code, "message": self.message}}
