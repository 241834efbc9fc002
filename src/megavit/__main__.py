"""`python -m megavit` is `megavit`."""

import gc
import os
import signal
import sys

# OpenMP's threads spin for milliseconds while they wait for each other. Where another program has one of the
# processors, a training step then takes a hundred times as long; so short a spin costs an idle machine nothing.
SPIN_COUNT = "20000"
# New objects between two searches for garbage. PyTorch's import makes a million of them, all to stay; at Python's own
# 700 the searches take a tenth of its time.
OBJECTS_BETWEEN_COLLECTIONS = 20_000


def main() -> None:
    """The entry point; what is imported takes a moment in which a Ctrl-C is to be no traceback."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        from megavit.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("megavit: stopped\n")
        sys.exit(128 + signal.SIGINT)
    run()


if __name__ == "__main__":
    main()
