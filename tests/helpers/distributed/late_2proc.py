"""Two processes of which one does not come, or cannot do what the leader does: see `test_process_group`."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from megavit.errors import LostProcessError, OutputError
from megavit.runtime.process_group import get_dist_context

dist, out = get_dist_context(), Path(sys.argv[1])
answer: dict[str, Any] = {}
with dist.init_process_group(torch.device("cpu"), 60.0):
    answer["first"] = dist.run_on_main(lambda: dist.rank)
    answer["every"] = dist.all_gather(dist.rank * 10)

    def refuse() -> int:
        raise OutputError("the disk is full")

    try:
        dist.run_on_main(refuse)
    except OutputError as error:
        answer["refused"] = dist.all_gather(str(error))
    if dist.is_main_process:
        before = time.monotonic()
        impatient = dist.new_group(2.0)
        try:
            with dist.translate_errors():
                impatient.all_gather("here")
        except LostProcessError as error:
            answer["lost"] = str(error)
        answer["seconds"] = time.monotonic() - before
        (out / "answer.json").write_text(json.dumps(answer))
    else:
        dist.new_group(2.0)
        time.sleep(4)
    sys.stdout.flush()
    os._exit(0)  # where Python's own end would abort on threads that wait
