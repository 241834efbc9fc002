"""The images that a verb is given on the command line."""

import os
from collections.abc import Sequence

from megavit.errors import ConfigError


def check_images(images: Sequence[str], verb: str) -> None:
    """Raise a ConfigError unless there are names of images, none of which is an option that does not exist."""
    from megavit.predict.standard_input import STANDARD_INPUT

    if not images:
        raise ConfigError(f"IMAGES are missing: megavit {verb} BUNDLE photo.jpg, a folder, or - for standard input")
    for name in images:
        if name.startswith("-") and name != STANDARD_INPUT and not os.path.exists(name):  # noqa: PTH110 - raises nothing
            raise ConfigError(f"there is no option {name}; megavit {verb} --help lists what there is")
