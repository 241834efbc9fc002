"""A browser for what is exported to one."""

from tests.page.conftest import browser, open_page, runtime

__all__ = ["browser", "open_page", "runtime"]
