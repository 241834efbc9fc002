"""The bundle of digits that classes are added to and removed from."""

from tests.helpers.digits_bundle import added_digits, digits_bundle  # noqa: F401
