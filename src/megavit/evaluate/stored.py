"""Metrics as a bundle stores them, read back."""

from typing import Any, TypeVar

from megavit.errors import BundleError

T = TypeVar("T")


def read_stored(kind: type[T], data: dict[str, Any]) -> T:
    """The metrics of a `kind` from plain JSON types.

    Raises:
        BundleError: naming each part that is missing or of the wrong kind.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise BundleError(f"stored metrics are not as megavit writes them: {found}") from error
