"""A size in the two forms that the decoder takes it."""

from megavit.config.preprocessing import Preprocessing


def sized(height: int, width: int, channels: int) -> tuple[tuple[int, int], Preprocessing]:
    return (height, width), Preprocessing(height=height, width=width, channels=channels)
