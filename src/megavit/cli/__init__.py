"""The command line: one module per command; each imports what it needs when it runs, so that --help is fast."""

import time

STARTED = time.monotonic()
"""When the command began: before anything large is imported."""
