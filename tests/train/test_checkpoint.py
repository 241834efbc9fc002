import errno
import json
import os

import pytest
import torch

from megavit.errors import BundleError, OutputError
from megavit.train.checkpoint import checkpoints, load_checkpoint, remove_unfinished, save_checkpoint
from megavit.train.history import EpochRecord
from megavit.train.loop import train_step
from megavit.train.spikes import Spikes
from megavit.train.state import LATER_NUMBERS
from tests.train.tiny import STEPS, batch_at, fresh_state, make_task, same_weights


def trained(steps: int):
    task, state = make_task(), fresh_state(make_task())
    for step in range(steps):
        train_step(state, task, *batch_at(step), rate=1e-3, steps=STEPS)
    return state


def epoch(accuracy: float) -> EpochRecord:
    return EpochRecord(
        epoch=1, step=3, seconds=1.5, train_loss=1.0, val_loss=0.1 + 0.2, val_metric=accuracy, learning_rate=1e-3
    )


def test_a_restored_state_is_the_saved_one_to_the_bit(tmp_path):
    saved = trained(3)
    saved.record(epoch(0.5))
    saved.loss_sum, saved.skipped, saved.seconds = 1 / 3, 2, 0.1
    save_checkpoint(tmp_path, saved)
    restored = fresh_state(make_task())
    assert load_checkpoint(tmp_path, restored) == []
    assert restored.numbers() == saved.numbers()
    assert restored.history == saved.history
    found, expected = restored.tensors(), saved.tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {name.split(".")[0] for name in expected} == {"model", "average", "best", "optimiser"}


def test_a_checkpoint_of_a_version_that_knew_no_spikes_is_restored(tmp_path, monkeypatch):
    saved = trained(3)
    numbers = {name: value for name, value in saved.numbers().items() if name not in (*LATER_NUMBERS, "spikes")}
    assert len(numbers) == len(saved.numbers()) - 4
    monkeypatch.setattr(saved, "numbers", lambda: numbers)
    save_checkpoint(tmp_path, saved)
    restored = fresh_state(make_task())
    assert load_checkpoint(tmp_path, restored) == []
    assert (restored.step, restored.rollbacks, restored.left_out, restored.spikes) == (3, 0, 0, Spikes())


def test_the_step_after_a_restore_is_the_step_without_one(tmp_path):
    task, whole = make_task(), trained(4)
    save_checkpoint(tmp_path, trained(3))
    resumed = fresh_state(task)
    load_checkpoint(tmp_path, resumed)
    train_step(resumed, task, *batch_at(3), rate=1e-3, steps=STEPS)
    assert same_weights(resumed.model, whole.model) and same_weights(resumed.average, whole.average)


def test_the_best_epoch_is_kept_and_of_equal_ones_the_later():
    state = trained(1)
    state.record(epoch(0.5))
    first = {name: tensor.clone() for name, tensor in state.best.items()}
    train_step(state, make_task(), *batch_at(1), rate=1e-2, steps=STEPS)
    state.record(epoch(0.4))
    assert state.best_epoch == 0 and all(torch.equal(state.best[name], first[name]) for name in first)
    state.record(epoch(0.5))
    assert state.best_epoch == 2 and not torch.equal(state.best["mlp_head.weight"], first["mlp_head.weight"])


def test_only_the_newest_two_stay(tmp_path):
    state = fresh_state(make_task())
    for step in (1, 2, 10):
        state.step = step
        save_checkpoint(tmp_path, state)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000010", "step-000000002"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, name, harm):
    save_checkpoint(tmp_path, trained(1))
    save_checkpoint(tmp_path, trained(2))
    path = checkpoints(tmp_path)[0] / name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[-2] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    state = fresh_state(make_task())
    damaged = load_checkpoint(tmp_path, state)
    assert state.step == 1
    assert len(damaged) == 1 and "step-000000002" in damaged[0]


def test_with_no_sound_checkpoint_the_error_says_what_is_wrong_with_each(tmp_path):
    save_checkpoint(tmp_path, trained(1))
    (checkpoints(tmp_path)[0] / "manifest.json").write_text(json.dumps({"sha256": "no"}))
    with pytest.raises(BundleError, match=r"no checkpoint.*start the training again\n.*not what was written"):
        load_checkpoint(tmp_path, fresh_state(make_task()))


def test_a_full_disk_leaves_the_last_checkpoint_and_says_where_to_go_on(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, trained(1))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"disk is full.*can be resumed from step 1"):
            save_checkpoint(tmp_path, trained(2))
    state = fresh_state(make_task())
    assert load_checkpoint(tmp_path, state) == [] and state.step == 1


def test_a_number_that_is_not_what_was_written_is_damage_too(tmp_path):
    save_checkpoint(tmp_path, trained(1))
    save_checkpoint(tmp_path, trained(2))
    manifest = checkpoints(tmp_path)[0] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"skipped": 0', '"skipped": 1'))
    state = fresh_state(make_task())
    assert len(load_checkpoint(tmp_path, state)) == 1
    assert (state.step, state.skipped) == (1, 0)


def test_what_a_killed_run_had_begun_to_write_is_removed_and_nothing_else(tmp_path):
    save_checkpoint(tmp_path, trained(1))
    (tmp_path / ".step-000000002-0badcafe").mkdir()
    (tmp_path / ".step-000000002-0badcafe" / "state.safetensors").write_bytes(b"half")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    remove_unfinished(tmp_path / "nothing")
