"""A run that ends early says how it is gone on with."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from megavit.errors import DataError, Interrupted, OutputError, signal_of


@contextmanager
def resumable(out: Path) -> Iterator[None]:
    """Whatever stops the run in `out` from outside, in here, is an error that names the command to go on with."""
    how_to_go_on = f"go on with megavit train --resume {shlex.quote(str(out))}"
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}: {how_to_go_on}", error.exit_code - 128) from None
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped at once: {how_to_go_on}", signal_of(interrupt)) from None
    except (DataError, OutputError) as error:
        raise type(error)(f"{str(error).removesuffix('.')}. When that is mended, {how_to_go_on}") from error
