"""Broken images, straight into the decoder: refused with a reason, in bounded memory."""

import json
import os
import resource
import subprocess
import sys

import pytest

from benchmarks.serving.mutations import mutate, real_images
from megavit.data.decode.image_file import read_image_file
from megavit.errors import ImageError
from tests.helpers.servers import ROOT

IMAGES, SEED = 400, 20_000
MOST_MIB = 300
NO_MEMORY = "there is not enough memory for its pixels"

# In a process of its own, as a decoder that crashes must not end the tests, and so that a limit of memory holds for
# nothing else. What C prints of an image is no news.
_CHILD = """
import json, resource, sys
from tests.serving.test_fuzz_decode import decode_all
print(json.dumps(decode_all(int(sys.argv[1]), int(sys.argv[2]))))
"""


def decode_all(seed: int, images: int) -> dict[str, object]:
    """What became of them, and MiB that the process took at most above what it had before."""
    real = real_images()
    for data in real:
        read_image_file(data, (224, 224))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Virtual, so more than is touched: canvases are set aside as a header says, and then not filled.
    resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))
    reasons: dict[str, int] = {}
    for place in range(seed, seed + images):
        try:
            pixels, _ = read_image_file(mutate(real, place), (224, 224))
            assert pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.size
            reason = "read"
        except ImageError as error:
            reason = error.reason
        reasons[reason] = reasons.get(reason, 0) + 1
    return {"reasons": reasons, "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10}


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory as Linux counts it")
def test_broken_images_are_refused_in_bounded_memory() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(SEED), str(IMAGES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    found = json.loads(child.stdout)
    reasons = found["reasons"]
    assert sum(reasons.values()) == IMAGES
    assert NO_MEMORY not in reasons
    assert reasons["read"] > 40 and reasons["damaged or truncated"] > 40  # neither all nor none are broken
    assert found["mib"] < MOST_MIB


_ONE = """
import resource, zlib
from benchmarks.serving.hostile import tiff, tiled_tiff
from megavit.data.decode.image_file import read_image_file
from megavit.errors import ImageError
packed = zlib.compress(bytes(2**26), 9)
data = tiff(tiled_tiff(1, 1, 8, 30_000, len(packed)), after=bytes(200 - 146) + packed)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image_file(data, (224, 224))
except ImageError as error:
    print(error.reason)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 2**10)
"""


def test_a_tiff_of_one_pixel_in_a_huge_tile_is_refused_before_the_tile_is_unpacked() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _ONE],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    reason, mib = child.stdout.splitlines()
    assert reason == "tiles of 30000 × 30000 pixels exceed the limit of 89 million"
    assert int(mib) < 50  # 859 where it was unpacked
