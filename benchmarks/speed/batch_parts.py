"""How many images a stream of the inference engine should compute at once, interleaved: why it is 8.

    python -m benchmarks.speed.batch_parts [PRESET ...]

For each preset (default: nano, S) in float32, a batch of 64 images, the median milliseconds for each size of the parts
that the processors compute independently, and the ratio to one part for each processor. `--busy` adds another program
that needs one processor for half of the time.
"""

import subprocess
import sys
from functools import partial
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from megavit.bench.timing import time_interleaved
from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import preset
from megavit.engine import openvino
from megavit.model.vit import MegaVit

BATCH, SECONDS = 64, 60.0
SIZES = (32, 16, 8, 4)
BUSY = """
import time
while True:
    end = time.perf_counter() + 5e-4
    while time.perf_counter() < end:
        pass
    time.sleep(5e-4)
"""


def main(names: list[str], busy: bool) -> None:
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        table = Table("preset", "another program", *(f"{size} at once, ms" for size in SIZES), "8 to 32 at once, ratio")
        for name in names:
            config = preset(name)
            height, width = config.image_hw
            preprocessing = Preprocessing(height=height, width=width, channels=config.channels)
            engine = openvino.OpenVino(MegaVit.from_config(config).eval(), preprocessing, "float32")
            images = torch.randint(0, 256, (BATCH, config.channels, height, width), dtype=torch.uint8)
            runs = {str(size): partial(_run, engine, images, size) for size in SIZES}
            timings = time_interleaved(runs, SECONDS, torch.device("cpu"))
            ratios = [a / b for a, b in zip(timings["32"].seconds, timings["8"].seconds, strict=True)]
            milliseconds = (f"{timings[key].median * 1e3:.1f}" for key in runs)
            table.add_row(name, str(busy), *milliseconds, f"{torch.tensor(ratios).median():.2f}")
        Console().print(table)
    finally:
        if other is not None:
            other.kill()


def _run(engine: openvino.OpenVino, images: torch.Tensor, size: int) -> None:
    with patch.object(openvino, "IMAGES_PER_PART", size):
        engine(images)


if __name__ == "__main__":
    main([name for name in sys.argv[1:] if name != "--busy"] or ["nano", "S"], "--busy" in sys.argv)
