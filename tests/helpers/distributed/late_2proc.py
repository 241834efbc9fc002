"""Two processes of which one does not come, or cannot do what the leader does: see `test_process_group`."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from megavit.errors import LostProcess, OutputError
from megavit.runtime.process_group import ranks

here, out = ranks(), Path(sys.argv[1])
answer: dict[str, Any] = {}
with here.joined(torch.device("cpu"), 60.0):
    answer["first"] = here.first(lambda: here.rank)
    answer["every"] = here.every(here.rank * 10)

    def refuse() -> int:
        raise OutputError("the disk is full")

    try:
        here.first(refuse)
    except OutputError as error:
        answer["refused"] = here.every(str(error))
    if here.leads:
        before = time.monotonic()
        impatient = here.beside(2.0)
        try:
            with here.losses_named():
                impatient.every("here")
        except LostProcess as error:
            answer["lost"] = str(error)
        answer["seconds"] = time.monotonic() - before
        (out / "answer.json").write_text(json.dumps(answer))
    else:
        here.beside(2.0)
        time.sleep(4)
    sys.stdout.flush()
    os._exit(0)  # where Python's own end would abort on threads that wait
