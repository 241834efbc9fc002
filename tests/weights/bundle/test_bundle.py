"""A bundle gives the very model that went in, whoever moves, replaces or fails to write it."""

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megavit.config.vit import Design
from megavit.data.byte_range import content_digest
from megavit.data.dataset import Sample, SampleRow, read_samples
from megavit.errors import OutputError
from megavit.weights.bundle import bundle as module
from megavit.weights.bundle.bundle import CARD, INFO, REFERENCE, SAMPLES, WEIGHTS, load_bundle, read_info, save_bundle
from megavit.weights.bundle.safetensors_io import read_tensors
from tests.helpers.bundles import (
    LABELS,
    make_bundle,
    make_info,
    make_model,
    make_samples,
    reference_images,
)

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


# there and back


def test_a_loaded_model_gives_the_same_logits_to_the_bit(tmp_path):
    model = make_bundle(tmp_path / "b")
    loaded = load_bundle(tmp_path / "b", verify=True)
    with torch.no_grad():
        assert torch.equal(loaded.model(IMAGES), model(IMAGES))
    assert not loaded.model.training
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    "changes",
    [
        {"design": Design(positions="sincos", mlp="swiglu", norm="rms")},
        {"design": Design(positions="rope", block="serial", registers=2, layer_scale=0.1), "pool": "map"},
        {"image_size": (8, 12), "patch_size": (4, 2), "pool": "cls", "channels": 1},
        {"dropout": 0.1, "emb_dropout": 0.1, "design": Design(drop_path=0.1)},
    ],
    ids=["sincos", "rope", "oblong", "dropout"],
)
def test_models_of_every_kind_survive(changes, tmp_path):
    changes = {"channels": 3, **changes}
    model = make_bundle(tmp_path / "b", make_model(**changes).eval())
    height, width = model.config.image_hw
    images = torch.rand(2, changes["channels"], height, width)
    loaded = load_bundle(tmp_path / "b", verify=True)
    assert loaded.info.model == model.config
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)
    with torch.no_grad():  # up to rounding: weights lie elsewhere in memory, and may be added up in another order
        torch.testing.assert_close(loaded.model(images), model(images), rtol=1e-5, atol=1e-5)


def test_everything_said_of_it_survives(tmp_path):
    model = make_model()
    make_bundle(tmp_path / "b", model)
    info = load_bundle(tmp_path / "b").info
    expected = make_info(model)
    for name in ("format", "model", "labels", "preprocessing", "created", "metrics", "data", "recipe", "versions"):
        assert getattr(info, name) == getattr(expected, name)


def test_it_has_exactly_these_five_files_and_all_but_one_are_listed(bundle):
    assert {file.name for file in bundle.iterdir()} == {INFO, WEIGHTS, REFERENCE, SAMPLES, CARD}
    assert set(read_info(bundle).files) == {WEIGHTS, REFERENCE, SAMPLES, CARD}


def test_nothing_in_it_is_pickled(bundle):
    for file in bundle.iterdir():
        data = file.read_bytes()
        assert not data.startswith((b"\x80", b"PK"))  # a pickle; a zip, as torch.save writes
    for name in (WEIGHTS, REFERENCE):
        assert load_file(bundle / name)


def test_labels_in_any_script_survive(tmp_path):
    labels = ("猫", 'naïve "dog", \n\\ | `x`', "🦎")
    make_bundle(tmp_path / "b", labels=labels)
    assert load_bundle(tmp_path / "b").info.labels == list(labels)
    assert "猫" in (tmp_path / "b" / INFO).read_text(encoding="utf-8")


def test_file_names_that_are_no_text_survive_in_the_list_of_samples(tmp_path):
    name = os.fsdecode(b"cat/\xff\n\xe4.jpg")
    make_bundle(tmp_path / "b", samples=[Sample(name, 1, "val", 8, 8, 3, content_digest(b"1"))])
    load_bundle(tmp_path / "b")
    assert read_samples(tmp_path / "b" / SAMPLES) == (SampleRow(name, "dog", "val", content_digest(b"1")),)


def test_a_source_whose_name_is_no_text_can_be_told(tmp_path):
    data = {"source": os.fsdecode(b"photos-\xff"), "division": "", "counts": {"train": 1}}
    make_bundle(tmp_path / "b", data=data)
    assert "photos-" in load_bundle(tmp_path / "b").info.data["source"]


def test_a_model_that_was_training_gets_the_reference_outputs_of_its_use(tmp_path):
    model = make_model(dropout=0.5, design=Design(drop_path=0.5)).train()
    make_bundle(tmp_path / "b", model)
    load_bundle(tmp_path / "b", verify=True)


def test_a_bundle_can_be_moved_and_copied(bundle, tmp_path):
    bundle.rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "ä copy")
    load_bundle(tmp_path / "moved", verify=True)
    load_bundle(tmp_path / "ä copy", verify=True)


def test_the_bundle_of_a_runs_folder_is_found(tmp_path):
    make_bundle(tmp_path / "run/bundle")
    assert load_bundle(tmp_path / "run").folder == tmp_path / "run/bundle"


# writing


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(bundle, tmp_path, monkeypatch):
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    model = make_model(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full: the bundle could not be written to"):
            save_bundle(
                bundle,
                model,
                make_info(model),
                reference=reference_images(),
                samples=make_samples(tmp_path).read_bytes(),
            )
    load_bundle(bundle, verify=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {"bundle", "listed.csv"}


def test_a_place_where_no_bundle_can_be_written_is_said(tmp_path):
    model = make_model()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the bundle could not be written to"):
        save_bundle(
            tmp_path / "file/bundle",
            model,
            make_info(model),
            reference=reference_images(),
            samples=make_samples(tmp_path).read_bytes(),
        )


def test_an_error_while_writing_leaves_the_old_bundle(bundle, tmp_path):
    model = make_model(seed=1)
    with pytest.raises(KeyError):
        save_bundle(
            bundle,
            model,
            make_info(model, metrics={"images": 3}),
            reference=reference_images(),
            samples=make_samples(tmp_path).read_bytes(),
        )
    load_bundle(bundle, verify=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {"bundle", "listed.csv"}


# another bundle takes its place meanwhile


@pytest.mark.parametrize("name", [WEIGHTS, REFERENCE])
def test_a_bundle_replaced_while_it_is_read_is_the_old_one_or_the_new(name, tmp_path, monkeypatch):
    models = {created: make_model(seed=seed).eval() for seed, created in enumerate(("old", "new"))}
    make_bundle(tmp_path / "b", models["old"], created="old")
    waiting = ["new"]

    def replaced_just_before(path: Path):
        if path.name == name and waiting:
            make_bundle(tmp_path / "b", models["new"], created=waiting.pop())
        return read_tensors(path)

    monkeypatch.setattr(module, "read_tensors", replaced_just_before)
    loaded = load_bundle(tmp_path / "b", verify=True)
    assert not waiting
    with torch.no_grad():
        assert torch.equal(loaded.model(IMAGES), models[loaded.info.created](IMAGES))


def test_readers_get_the_old_bundle_or_the_new_while_it_is_replaced(tmp_path):
    folder, swaps = tmp_path / "b", 40
    models = [make_model(seed=seed).eval() for seed in (0, 1)]
    make_bundle(folder, models[0], created="0")
    expected = [model(IMAGES).detach() for model in models]
    faults: list[str] = []
    seen: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                loaded = load_bundle(folder, verify=True)
                number = int(loaded.info.created)
                with torch.no_grad():
                    if not torch.equal(loaded.model(IMAGES), expected[number % 2]):
                        faults.append("the weights of one with the description of another")
                seen.add(number)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
                faults.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, swaps):
        make_bundle(folder, models[number % 2], created=str(number))
    done.set()
    for reader in readers:
        reader.join()
    assert set(faults) == set()
    assert len(seen) > 1


def test_the_description_is_json_that_people_can_read(bundle):
    lines = (bundle / INFO).read_text(encoding="utf-8").splitlines()
    assert len(lines) > 40
    assert json.loads("\n".join(lines))["labels"] == list(LABELS)
