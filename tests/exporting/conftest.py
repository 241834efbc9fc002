"""What is exported once."""

from tests.helpers.export_cases import export_case  # noqa: F401
