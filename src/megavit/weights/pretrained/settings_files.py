"""Read the settings files of other libraries: config.json, open_clip_config.json and image processors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megavit.errors import BundleError, ConfigError

SETTINGS = ("open_clip_config.json", "config.json")
PROCESSOR, NESTED = "preprocessor_config.json", "processor_config.json"


def read_model_settings(folder: Path) -> dict[str, Any]:
    """Return the model's settings, which may include preprocessing; {} if there are none."""
    return next((settings for name in SETTINGS if (settings := read_settings(folder / name))), {})


def read_processor_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of Hugging Face's image processor; {} if there are none."""
    nested = read_settings(folder / NESTED).get("image_processor")
    return nested if isinstance(nested, dict) else read_settings(folder / PROCESSOR)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a JSON file, or {} if it does not exist; raise a BundleError if it is invalid."""
    try:
        settings = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise BundleError(f"{path} must contain a JSON object")
    return settings


@contextmanager
def valid_settings(what: str) -> Iterator[None]:
    """Convert errors caused by malformed settings of another library to a BundleError."""
    try:
        yield
    except BundleError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise BundleError(f"the {what} settings in the model's JSON files cannot be used: {reason}") from None
