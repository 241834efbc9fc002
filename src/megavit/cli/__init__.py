"""The command line: one file a verb; each imports what it needs when it is used, so that help comes at once."""

import time

STARTED = time.monotonic()
"""When the command began, as near as Python can tell: before anything large is imported."""
