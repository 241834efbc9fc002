"""Check the limits of all numbers on the command line before a command runs.

Checks that depend on more than the number are up to each command.
"""

from collections.abc import Mapping
from typing import Any

from megavit.config.checks import is_number
from megavit.errors import ConfigError

MAY_BE_ZERO = ("port", "seed", "max_accuracy_drop", "norm_eps")
DEFAULT_LIMIT = 10**9
LIMITS = {
    "seed": 2**63 - 1,
    "total_images": 10**15,
    "batch_size": 100_000,
    "max_batch_size": 4096,
    "epochs": 10**6,
    "gpus": 10**6,
    "num_heads": 10**4,
    "image_size": 2**16,
    "learning_rate": 100,
    "max_accuracy_drop": 100,
    "load_timeout": 10**6,
    "max_megapixels": 2**30 // 10**6,
    "minutes": 10**7,
    "gpus_per_node": 10**6,
    "patch_size": 2**16,
    "nproc": 1024,
    "read_timeout": 10**6,
    "timeout": 10**6,
    "top": 10**6,
}
"""Maximum value by parameter name; `DEFAULT_LIMIT` for all others."""


def check_numbers(arguments: Mapping[str, Any]) -> None:
    """Raise a ConfigError with one line for each number beyond its limits."""
    errors = [f"--{name.replace('_', '-')} must be {_limits(name, value)}, got {value}"
             for name, value in arguments.items()
             if is_number(value) and not _fits(name, value)]  # fmt: skip
    if errors:
        raise ConfigError("\n".join(errors))


def _fits(name: str, value: float) -> bool:
    # NaN compares false.
    return (value > 0 or (value == 0 and name in MAY_BE_ZERO)) and value <= LIMITS.get(name, DEFAULT_LIMIT)


def _limits(name: str, value: float) -> str:
    minimum = "0 or more" if name in MAY_BE_ZERO else "at least 1" if isinstance(value, int) else "above 0"
    kind = "an integer" if isinstance(value, int) else "a number"
    return f"{kind}, {minimum} and at most {LIMITS.get(name, DEFAULT_LIMIT):,}"
