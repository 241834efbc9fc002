"""The command line, with one module per command; commands import what they need when they run."""

import time

STARTED = time.monotonic()
"""Monotonic time at which the command began, before the large imports."""
