"""Images of sizes whose margins are odd and even, and how they are prepared here."""

from PIL import Image

from benchmarks.conversion.processors import images, prepare_image

CHOSEN = ("noise 640 × 427 RGB", "noise 641 × 480 L", "photograph 37 × 500 RGB", "noise 1000 × 33 RGB")


def images_of_all_sizes() -> tuple[tuple[str, Image.Image], ...]:
    """Return a few images with their names."""
    return tuple((name, image) for name, image in images() if name in CHOSEN)


__all__ = ["images_of_all_sizes", "prepare_image"]
