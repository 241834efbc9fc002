"""Figures in pages of the documentation, each between two markers of its own."""

import re


def page_with(page: str, begin: str, lines: list[str], end: str) -> str:
    """`page` with `lines` between its markers `begin` and `end`, which stay."""
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"the page has no markers for the figures: it must contain {begin} and {end}")
    text = "\n".join([begin, "", *lines, "", end])
    return pattern.sub(lambda _: text, page)
