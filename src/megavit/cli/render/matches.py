"""Print the images that were found for others."""

from megavit.cli.console import results
from megavit.cli.writers.predictions import print_unreadable
from megavit.config.names import printable
from megavit.search.search import SearchResult


def show_matches(result: SearchResult) -> None:
    """Print an image, and below it a line for each that is similar."""
    if result.error is not None:
        print_unreadable(result.name, result.error)
        return
    results.print(printable(result.name), style="bold")
    for match in result.matches:
        image = match.image
        known = [printable(image.label), image.split] if image.split else []
        copy = ["near copy"] if match.is_near_copy else []
        results.print("  ".join([f"  {match.similarity:.3f}", printable(image.name), *known, *copy]))
