import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from megavit.errors import BundleError, OutputError
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint, remove_incomplete, save_checkpoint
from megavit.training.checkpoint.manifest import MANIFEST, digest_manifest
from megavit.training.history import EpochRecord
from megavit.training.loop.loop import train_step
from tests.helpers.training import STEPS, batch_at, fresh_state, make_task, same_weights


def trained(steps: int):
    task, state = make_task(), fresh_state(make_task())
    for step in range(steps):
        train_step(state, task, batch_at(step), rate=1e-3, steps=STEPS)
    return state


def epoch(accuracy: float) -> EpochRecord:
    return EpochRecord(
        epoch=1, step=3, seconds=1.5, train_loss=1.0, val_loss=0.1 + 0.2, val_metric=accuracy, learning_rate=1e-3
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints after step 1, and after step 3 with a best epoch."""
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(folder, trained(1))
    later = trained(3)
    later.record(epoch(0.5))
    save_checkpoint(folder, later)
    return folder


@pytest.fixture(scope="module")
def first_numbers() -> dict[str, object]:
    return trained(1).numbers()


@pytest.fixture
def two(saved: Path, tmp_path: Path) -> Path:
    """A copy of both checkpoints."""
    return shutil.copytree(saved, tmp_path / "two")


@pytest.fixture
def one(two: Path) -> Path:
    """A copy of the first checkpoint alone."""
    shutil.rmtree(list_checkpoints(two)[0])
    return two


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
    assert {name.split(".")[0] for name in expected} == {"model", "ema_model", "best", "optimizer"}


def test_the_step_after_a_restore_is_the_step_without_one(tmp_path):
    task, whole = make_task(), trained(4)
    save_checkpoint(tmp_path, trained(3))
    resumed = fresh_state(task)
    load_checkpoint(tmp_path, resumed)
    train_step(resumed, task, batch_at(3), rate=1e-3, steps=STEPS)
    assert same_weights(resumed.model, whole.model) and same_weights(resumed.ema_model, whole.ema_model)


def test_the_best_epoch_is_kept_and_of_equal_ones_the_later():
    state = trained(1)
    state.record(epoch(0.5))
    first = {name: tensor.clone() for name, tensor in state.best.items()}
    train_step(state, make_task(), batch_at(1), rate=1e-2, steps=STEPS)
    state.record(epoch(0.4))
    assert state.best_epoch == 0 and all(torch.equal(state.best[name], first[name]) for name in first)
    state.record(epoch(0.5))
    assert state.best_epoch == 2 and not torch.equal(state.best["mlp_head.weight"], first["mlp_head.weight"])


def test_only_the_newest_two_stay(tmp_path):
    state = fresh_state(make_task())
    for step in (1, 2, 10):
        state.step = step
        save_checkpoint(tmp_path, state)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000010", "step-000000002"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(two, name, harm):
    path = list_checkpoints(two)[0] / name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[-2] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    state = fresh_state(make_task())
    damaged = load_checkpoint(two, state)
    assert state.step == 1
    assert len(damaged) == 1 and "step-000000003" in damaged[0]


def test_with_no_sound_checkpoint_the_error_says_what_is_wrong_with_each(one):
    (list_checkpoints(one)[0] / "manifest.json").write_text(json.dumps({"sha256": "no"}))
    with pytest.raises(BundleError, match=r"no intact checkpoint.*start the training again\n.*is damaged: its SHA-256"):
        load_checkpoint(one, fresh_state(make_task()))


def test_a_full_disk_leaves_the_last_checkpoint_and_says_where_to_go_on(one, monkeypatch):

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"disk is full.*can be resumed from step 1"):
            save_checkpoint(one, trained(2))
    state = fresh_state(make_task())
    assert load_checkpoint(one, state) == [] and state.step == 1


def test_a_number_that_is_not_what_was_written_is_damage_too(two):
    manifest = list_checkpoints(two)[0] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"skipped": 0', '"skipped": 1'))
    state = fresh_state(make_task())
    assert len(load_checkpoint(two, state)) == 1
    assert (state.step, state.skipped) == (1, 0)


def test_what_a_killed_run_had_begun_to_write_is_removed_and_nothing_else(one):
    (one / ".step-000000002-0badcafe").mkdir()
    (one / ".step-000000002-0badcafe" / "state.safetensors").write_bytes(b"half")
    remove_incomplete(one)
    assert [path.name for path in one.iterdir()] == ["step-000000001"]
    remove_incomplete(one / "nothing")


def tamper(checkpoint: Path, change: dict[str, object], remove: str = "") -> None:
    """Change numbers of a checkpoint and its digest, as no accident does."""
    path = checkpoint / MANIFEST
    manifest = json.loads(path.read_text()) | change
    del manifest["sha256"]
    manifest.pop(remove, None)
    path.write_text(json.dumps(manifest | {"sha256": digest_manifest(manifest)}))


RECORD = epoch(0.5).to_dict()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"best_epoch": 99}, "best_epoch"),
        ({"best_epoch": -1}, "best_epoch"),
        ({"best_epoch": None}, "best_epoch"),
        ({"best_epoch": True}, "best_epoch"),
        ({"step": "x"}, "step"),
        ({"step": 3.5}, "step"),
        ({"step": 7}, "named after step 3"),
        ({"step": -3}, "step"),
        ({"step": 10**40}, "step"),
        ({"progress": -5}, "progress"),
        ({"progress": 1.5}, "progress"),
        ({"progress": None}, "progress"),
        ({"validated": 0.9}, "validated"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": "long"}, "seconds"),
        ({"loss_sum": [1.0]}, "loss_sum"),
        ({"loss_steps": 10**6}, "loss_steps"),
        ({"skipped": 4}, "skipped"),
        ({"skipped_in_a_row": 2}, "skipped_in_a_row"),
        ({"dropped_batches": -1}, "dropped_batches"),
        ({"rollback_step": 5}, "rollback_step"),
        ({"rollbacks": {}}, "rollbacks"),
        ({"spike_detector": {"losses": "high"}}, "spike_detector"),
        ({"spike_detector": {"losses": [1.0] * 500}}, "spike_detector"),
        ({"spike_detector": {"high_losses": -40}}, "spike_detector"),
        ({"spike_detector": None}, "spike_detector"),
        ({"history": []}, "best_epoch"),
        ({"history": {"0": RECORD}}, "history"),
        ({"history": [RECORD | {"step": 9}]}, "history"),
        ({"history": [RECORD | {"step": "3"}]}, "history.0.step"),
        ({"history": [RECORD | {"val_metric": 4.0}]}, "history"),
        ({"history": [RECORD | {"metric": "luck"}]}, "history.0.metric"),
        ({"history": [RECORD | {"more": 1}]}, "history.0.more"),
        ({"more": 1}, "more"),
        ({"sha": "", "sha256": ""}, "sha"),
        ({"tp_size": "x"}, "tp_size"),
        ({"tp_size": 0}, "tp_size"),
    ],
)
def test_a_checkpoint_with_a_number_that_cannot_be_gives_way_to_the_one_before_by_name(
    two, first_numbers, change, named
):
    tamper(list_checkpoints(two)[0], change)
    state = fresh_state(make_task())
    (fault,) = load_checkpoint(two, state)
    assert "step-000000003" in fault and named in fault
    assert state.numbers() == first_numbers and not state.best


@pytest.mark.parametrize("name", ["step", "progress", "history", "best_epoch", "loss_sum"])
def test_a_checkpoint_without_a_number_is_refused_by_name(one, name):
    tamper(list_checkpoints(one)[0], {}, remove=name)
    with pytest.raises(BundleError, match=f"{name}: is missing"):
        load_checkpoint(one, fresh_state(make_task()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("best.mlp_head.bias"), "names or shapes differ, such as best.mlp_head.bias"),
        (lambda tensors: [tensors.pop(name) for name in [*tensors] if name.startswith("best.")], "0 tensors"),
        (lambda tensors: tensors.update({"optimizer.head.weight.exp_avg": torch.zeros(2)}), "optimizer.head.weight"),
        (lambda tensors: tensors.update({"optimizer.mlp_head.bias.exp_avg": torch.zeros(7, 7)}), "optimizer.mlp_head"),
        (lambda tensors: tensors.update({"model.mlp_head.bias": torch.zeros(1)}), "model.mlp_head.bias"),
        (lambda tensors: tensors.update({"more": torch.zeros(2)}), "more"),
    ],
)
def test_a_checkpoint_with_other_tensors_than_its_numbers_and_model_have_is_refused(
    tmp_path, monkeypatch, change, reason
):
    state = trained(3)
    state.record(epoch(0.5))
    tensors = state.tensors()
    change(tensors)
    monkeypatch.setattr(state, "tensors", lambda: tensors)
    save_checkpoint(tmp_path, state)
    with pytest.raises(BundleError, match=reason):
        load_checkpoint(tmp_path, fresh_state(make_task()))
