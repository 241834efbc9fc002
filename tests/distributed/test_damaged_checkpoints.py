"""Checkpoints of two processes that were damaged afterwards: seen, every time, and an older one is taken."""

import json
import random
import shutil
from pathlib import Path

import pytest

from megavit.distributed.context import ParallelContext
from megavit.errors import BundleError
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint
from megavit.training.checkpoint.manifest import digest_manifest
from tests.helpers.distributed import dist_2proc
from tests.helpers.distributed.training import SERIAL, make_state, make_task

FLIPS = 30


@pytest.fixture
def run(of_two, folder, tmp_path) -> Path:
    shutil.copytree(folder / "fsdp-parallel", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_a_flipped_bit_or_a_cut_end_of_any_file_is_seen(run):
    (checkpoint,) = list_checkpoints(run)
    chance = random.Random(0)
    files = sorted(checkpoint.iterdir())
    assert {path.name for path in files} == {".metadata", "__0_0.distcp", "__1_0.distcp", "manifest.json"}
    for number in range(FLIPS):
        path = files[number % len(files)]
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged) if number % 3 else whole[:place])
        with pytest.raises(BundleError):
            load_checkpoint(run, make_state(make_task(), ParallelContext()))
        path.write_bytes(whole)
    assert load_checkpoint(run, make_state(make_task(), ParallelContext())) == []


def test_a_checkpoint_without_a_file_is_left_out_for_an_older_one(run):
    newest = later(run, 9, {})
    (newest / "__1_0.distcp").unlink()
    state = make_state(make_task(), ParallelContext())
    (fault,) = load_checkpoint(run, state)
    assert newest.name in fault and state.step == dist_2proc.SAVED


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"best_epoch": 99}, "best_epoch"),
        ({"step": "x"}, "step"),
        ({"step": 7}, "named after step 9"),
        ({"progress": -5}, "progress"),
        ({"tp_size": "x"}, "tp_size"),
        ({"history": None}, "history"),
    ],
)
def test_a_checkpoint_with_a_number_that_cannot_be_is_left_out_by_name(run, change, named):
    newest = later(run, 9, change)
    state = make_state(make_task(), ParallelContext())
    (fault,) = load_checkpoint(run, state)
    assert newest.name in fault and named in fault and state.step == dist_2proc.SAVED


def later(run: Path, step: int, change: dict[str, object]) -> Path:
    """A copy of the only checkpoint as one of a later step, sealed again."""
    (first,) = list_checkpoints(run)
    copied = run / f"step-{step:09}"
    shutil.copytree(first, copied)
    numbers = json.loads((copied / "manifest.json").read_text()) | {"step": step} | change
    del numbers["sha256"]
    (copied / "manifest.json").write_text(json.dumps(numbers | {"sha256": digest_manifest(numbers)}))
    return copied


def test_one_of_another_model_is_refused(run):
    with pytest.raises(BundleError, match="does not fit this model"):
        load_checkpoint(run, make_state(make_task(), ParallelContext(), SERIAL))


def test_a_manifest_that_was_changed_is_refused(run):
    (checkpoint,) = list_checkpoints(run)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"step": 6}))
    with pytest.raises(BundleError, match="is damaged: its SHA-256"):
        load_checkpoint(run, make_state(make_task(), ParallelContext()))
