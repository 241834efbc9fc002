"""The limits of every number on the command line, checked before a verb begins.

A number that cannot be meant is refused by its flag's name here, whatever the verb makes of it: below zero, not
finite, or so large that nothing would ever come of it. What a verb can say better (which sizes divide, how many classes
there are) it says itself.
"""

from collections.abc import Mapping
from typing import Any

from megavit.config.checks import is_number
from megavit.errors import ConfigError

MAY_BE_ZERO = ("port", "seed", "max_accuracy_drop", "norm_eps")
MOST = 10**9
MOST_OF = {
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
"""By the parameter's name; of all others `MOST`."""


def check_numbers(arguments: Mapping[str, Any]) -> None:
    """Check what a verb was given, by its parameters' names.

    Raises:
        ConfigError: for all numbers that are beyond their limits, a line for each.
    """
    wrong = [f"--{name.replace('_', '-')} must be {_limits(name, value)}, got {value}"
             for name, value in arguments.items()
             if is_number(value) and not _fits(name, value)]  # fmt: skip
    if wrong:
        raise ConfigError("\n".join(wrong))


def _fits(name: str, value: float) -> bool:
    # NaN is neither.
    return (value > 0 or (value == 0 and name in MAY_BE_ZERO)) and value <= MOST_OF.get(name, MOST)


def _limits(name: str, value: float) -> str:
    least = "0 or more" if name in MAY_BE_ZERO else "at least 1" if isinstance(value, int) else "above 0"
    kind = "a whole number" if isinstance(value, int) else "a number"
    return f"{kind}, {least} and no more than {MOST_OF.get(name, MOST):,}"
