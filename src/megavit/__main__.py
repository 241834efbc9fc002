"""`python -m megavit` is `megavit`."""

import signal
import sys


def main() -> None:
    """The entry point; what is imported takes a moment in which a Ctrl-C is to be no traceback."""
    try:
        from megavit.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("megavit: stopped\n")
        sys.exit(128 + signal.SIGINT)
    run()


if __name__ == "__main__":
    main()
