"""What every test runs under: one thread, and in CI the same Hypothesis examples each time."""

import os
import signal

from hypothesis import settings

# Fixtures, of which there must be one browser a process.
from tests.helpers.browser import browser, open_page, runtime  # noqa: F401
from tests.helpers.shared_folder import build_once  # noqa: F401

# Whoever starts the tests in the background may have them ignore these signals, and what they start would too.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# Before torch is imported, and for the processes that tests start: workers share the cores already.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test reaches a network or finds what this machine has cached, unless it says otherwise: training with --from auto
# then starts from scratch. Before huggingface_hub is imported, which reads these once.
for _name in ("HF_TOKEN", "HF_ENDPOINT", "MEGAVIT_BACKBONES"):
    os.environ.pop(_name, None)
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": os.devnull, "MEGAVIT_CACHE": os.devnull}
os.environ |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}

# A slow machine is no fault of the code: no deadlines.
settings.register_profile("ci", max_examples=20, derandomize=True, deadline=None, database=None)
settings.register_profile("local", max_examples=20, deadline=None)
settings.register_profile("drills", max_examples=200, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
