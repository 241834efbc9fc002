"""What every test runs under: one thread, and in CI the same Hypothesis examples each time."""

import os

from hypothesis import settings

# Before torch is imported, and for the processes that tests start: workers share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("local", deadline=None)  # a slow machine is no fault of the code
settings.load_profile("ci" if os.environ.get("CI") else "local")
