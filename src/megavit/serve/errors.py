"""What a client is told instead of an answer."""

from http import HTTPStatus

from megavit.errors import MegavitError

# The words for machines, one for each status; the message is for people.
KINDS = {
    HTTPStatus.BAD_REQUEST: "malformed",
    HTTPStatus.UNAUTHORIZED: "unauthorised",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "too_slow",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "address_too_long",
    HTTPStatus.MISDIRECTED_REQUEST: "wrong_host",
    HTTPStatus.UNPROCESSABLE_ENTITY: "unprocessable",
    HTTPStatus.TOO_MANY_REQUESTS: "busy",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "headers_too_large",
    HTTPStatus.INTERNAL_SERVER_ERROR: "failed",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout",
}


class ApiError(MegavitError):
    """Ends a request with its status.

    Args:
        status: of HTTP.
        message: a sentence that says what to do.
        retry_after: seconds after which another try may do better.
        allow: methods that would do.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, allow: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.retry_after, self.allow = retry_after, allow

    @property
    def kind(self) -> str:
        return KINDS.get(HTTPStatus(self.status), "refused")

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            found["www-authenticate"] = "Bearer"
        return found if self.allow is None else found | {"allow": self.allow}

    def to_dict(self) -> dict[str, dict[str, str]]:
        return {"error": {"kind": self.kind, "message": self.message}}
