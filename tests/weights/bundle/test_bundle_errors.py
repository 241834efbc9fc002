"""Whatever is missing, damaged or made up in a bundle is refused with a sentence on what is wrong."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from megavit.config.preprocessing import Preprocessing
from megavit.errors import BundleError, ConfigError
from megavit.weights.bundle.bundle import CARD, INFO, REFERENCE, SAMPLES, WEIGHTS, load_bundle
from megavit.weights.bundle.info import FORMAT
from tests.helpers.bundles import LABELS, edit_bundle_info, make_bundle, make_info, make_model, reseal_bundle


def refusal(folder: Path, *, verify: bool = False) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, verify=verify)
    return str(caught.value)


def flip_bit(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


# what is missing or damaged


def test_nothing_is_no_bundle(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none")
    assert f"it has no {INFO}" in refusal(tmp_path)
    (tmp_path / "file").write_text("")
    assert "is not a bundle" in refusal(tmp_path / "file")


@pytest.mark.parametrize("name", [WEIGHTS, REFERENCE, SAMPLES, CARD])
def test_a_missing_file_is_named(name, bundle):
    (bundle / name).unlink()
    assert f"has no {name}: copy the folder again" in refusal(bundle)


def test_a_missing_description_is_named(bundle):
    (bundle / INFO).unlink()
    assert f"it has no {INFO}" in refusal(bundle)


@pytest.mark.parametrize("name", [WEIGHTS, REFERENCE, SAMPLES, CARD])
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_flipped_bit_is_found(name, place, bundle):
    size = (bundle / name).stat().st_size
    flip_bit(bundle / name, int(place * size) if place > 0 else place)
    assert f"{bundle / name} is damaged" in refusal(bundle)


@pytest.mark.parametrize("text", [b'"cat"', b'"mean": 0.5', b'"std": 0.5', b'"created": "2'])
def test_a_flipped_bit_in_the_description_is_found(text, bundle):
    place = (bundle / INFO).read_bytes().index(text)
    flip_bit(bundle / INFO, place + len(text) - 2 + (text[-1:] != b'"'))
    assert "damaged" in refusal(bundle)


@pytest.mark.parametrize("name", [WEIGHTS, REFERENCE, SAMPLES, CARD])
def test_a_file_cut_short_is_found(name, bundle):
    os.truncate(bundle / name, (bundle / name).stat().st_size - 1)
    assert "is damaged" in refusal(bundle)


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_description_cut_short_is_found(share, bundle):
    os.truncate(bundle / INFO, int((bundle / INFO).stat().st_size * share))
    assert f"{INFO} is not valid JSON" in refusal(bundle)


def test_every_tensor_that_does_not_fit_is_listed_in_one_error(bundle):
    tensors = load_file(bundle / WEIGHTS)
    del tensors["mlp_head.bias"], tensors["norm.weight"]
    tensors["head.extra"] = torch.zeros(1)
    tensors["mlp_head.weight"] = torch.zeros(5, 8)
    save_file(tensors, bundle / WEIGHTS)
    reseal_bundle(bundle)
    reported = refusal(bundle).splitlines()
    assert reported[0] == f"the weights in {bundle / WEIGHTS} do not fit the model:"
    assert sorted(reported[1:]) == sorted(
        [
            "  mlp_head.bias: is missing",
            "  norm.weight: is missing",
            "  head.extra: is not part of this model",
            "  mlp_head.weight: has shape (5, 8), expected (3, 8)",
        ]
    )


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x80\x04.", b"\xff" * 100])
def test_weights_that_are_no_tensors_are_refused(content, bundle):
    (bundle / WEIGHTS).write_bytes(content)
    reseal_bundle(bundle)
    assert f"{bundle / WEIGHTS} cannot be read" in refusal(bundle)


# what the description says


def test_a_newer_format_is_refused_before_anything_else_in_it(bundle):
    edit_bundle_info(bundle, lambda table: table.update(format=FORMAT + 1, novelty=True))
    assert f"has format {FORMAT + 1}, newer than the supported {FORMAT}: update megavit" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.update(novelty=1), "novelty: there is no such setting"),
        (lambda table: table["model"].update(novelty=1), "model.novelty: there is no such setting"),
        (lambda table: table["model"]["design"].update(block="odd"), "model.design.block: input should be"),
        (lambda table: table["preprocessing"].update(std=0), "preprocessing: std must be a number from 1e-06 to"),
        (lambda table: table.pop("labels"), "labels: is missing"),
        (lambda table: table.pop("preprocessing"), "preprocessing: is missing"),
        (lambda table: table["labels"].pop(), "one unique label for each of the 3 classes"),
        (lambda table: table["labels"].append("owl"), "one unique label for each of the 3 classes"),
        (lambda table: table.update(labels=["cat", "dog", "cat"]), "one unique label"),
        (lambda table: table.update(labels=["cat", "dog", 3]), "labels.2: input should be a valid string, got 3"),
        (lambda table: table.update(format="1"), "format: input should be a valid integer"),
        (lambda table: table["files"].pop(WEIGHTS), f"does not list {WEIGHTS}"),
        (lambda table: table["files"].pop(REFERENCE), f"does not list {REFERENCE}"),
        (lambda table: table["files"].pop(SAMPLES), f"does not list {SAMPLES}"),
        (lambda table: table["files"].update({"../secret": "0"}), "'../secret', which is not a file of the bundle"),
        (lambda table: table["files"].update({"/etc/passwd": "0"}), "'/etc/passwd', which is not a file"),
        (lambda table: table["files"].update({"inner/file": "0"}), "'inner/file', which is not a file"),
        (lambda table: table["files"].update({"..": "0"}), "has no .."),
        (lambda table: table["files"].update({"a\0b": "0"}), "has no a"),
        (
            lambda table: table.update(int8={"bounds": "all"}),
            "int8.bounds must be a non-negative number for each layer",
        ),
        (lambda table: table.update(int8={"bounds": [1], "speeds": {}}), "int8.speeds must have a batch"),
        (lambda table: table.update(int8={"bounds": [1], "speeds": [{"batch": 1}]}), "int8.speeds must have a batch"),
    ],
)
def test_a_description_that_cannot_be_is_refused(change, said, bundle):
    edit_bundle_info(bundle, change)
    assert said in refusal(bundle)


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "must contain a JSON object"), ('{"format": 1, "format": 1}', "twice"), ("[" * 100_000, "not valid JSON")],
)
def test_a_description_of_another_kind_is_refused(text, said, bundle):
    (bundle / INFO).write_text(text)
    assert said in refusal(bundle)


def test_labels_that_do_not_fit_the_model_are_refused_before_writing():
    with pytest.raises(ConfigError, match="one unique label for each of the 3 classes"):
        make_info(make_model(3), ["cat", "dog"])


# reference outputs


def test_reference_outputs_that_disagree_are_refused_when_asked(bundle):
    reference = load_file(bundle / REFERENCE)
    reference["logits"][0, 0] += 0.05
    save_file(reference, bundle / REFERENCE)
    reseal_bundle(bundle)
    assert load_bundle(bundle).info.labels == list(LABELS)
    assert "does not reproduce its reference outputs: logits differ by 0.05" in refusal(bundle, verify=True)


@pytest.mark.parametrize("change", [{"mean": 0.45}, {"std": 0.25}])
def test_another_preprocessing_does_not_give_the_reference_outputs(change, bundle):
    edit_bundle_info(bundle, lambda table: table["preprocessing"].update(change))
    assert "reference outputs" in refusal(bundle, verify=True)


def test_other_weights_do_not_give_the_reference_outputs(bundle):
    tensors = load_file(bundle / WEIGHTS)
    save_file(tensors | {"mlp_head.bias": tensors["mlp_head.bias"].flip(0)}, bundle / WEIGHTS)
    reseal_bundle(bundle)
    assert "reference outputs" in refusal(bundle, verify=True)


def test_weights_that_are_no_numbers_do_not_give_the_reference_outputs(bundle):
    tensors = load_file(bundle / WEIGHTS)
    save_file(tensors | {"mlp_head.bias": torch.full((3,), float("nan"))}, bundle / WEIGHTS)
    reseal_bundle(bundle)
    assert "reference outputs" in refusal(bundle, verify=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda reference: reference.pop("logits"),
        lambda reference: reference.pop("image.0"),
        lambda reference: reference.update(logits=torch.zeros(2, 3)),
        lambda reference: reference.update({"image.0": torch.zeros(8, dtype=torch.uint8)}),
        lambda reference: reference.clear(),
    ],
    ids=["no logits", "no first picture", "too few logits", "a picture of one axis", "nothing"],
)
def test_reference_outputs_of_another_form_are_refused(change, bundle):
    reference = load_file(bundle / REFERENCE)
    change(reference)
    save_file(reference, bundle / REFERENCE)
    reseal_bundle(bundle)
    assert "reference" in refusal(bundle, verify=True)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"kind": "multilabel", "thresholds": [0.5]}, "one threshold for each of the 3 labels"),
        ({"kind": "regression"}, "one output and no labels"),
        ({"kind": "ranks"}, "target.kind: input should be 'classification', 'multilabel' or 'regression'"),
    ],
)
def test_a_target_that_does_not_fit_the_model_is_refused(bundle, target, said):
    edit_bundle_info(bundle, lambda table: table.update(target=target))
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle)


def test_a_bundle_from_before_there_were_other_targets_is_of_classes(bundle):
    edit_bundle_info(bundle, lambda table: table.pop("target"))
    assert load_bundle(bundle).info.target.kind == "classification"


def test_a_bundle_from_before_images_could_keep_their_shape_resizes_all_to_one_size(bundle):
    edit_bundle_info(bundle, lambda table: [table["preprocessing"].pop(key) for key in ("keep_aspect", "patch_size")])
    loaded = load_bundle(bundle, verify=True)
    assert not loaded.info.preprocessing.keep_aspect


def test_a_bundle_from_before_crops_were_rounded_otherwise_cuts_as_it_did(tmp_path):
    """As torchvision and timm do, from half an odd margin rounded to the even number."""
    size = Preprocessing(height=8, width=8, channels=3, resize=11)
    make_bundle(tmp_path / "cut", preprocessing=size)
    edit_bundle_info(
        tmp_path / "cut", lambda table: [table["preprocessing"].pop(key) for key in ("crop_rounding", "resize_dtype")]
    )
    loaded = load_bundle(tmp_path / "cut", verify=True)
    assert loaded.info.preprocessing == size
    assert size.crop_offset(11, 13) == (2, 2)


def test_patches_that_are_not_the_models_are_refused(bundle):
    edit_bundle_info(bundle, lambda table: table["preprocessing"].update(keep_aspect=True, patch_size=2))
    assert "preprocessing.patch_size must equal the model's" in refusal(bundle)


def test_reference_images_keep_their_shape_too(tmp_path):
    size = Preprocessing(height=8, width=8, channels=3, keep_aspect=True, patch_size=4)
    make_bundle(tmp_path / "kept", preprocessing=size)
    assert load_bundle(tmp_path / "kept", verify=True).info.preprocessing == size
    edit_bundle_info(tmp_path / "kept", lambda table: table["preprocessing"].update(keep_aspect=False))
    assert "reference outputs" in refusal(tmp_path / "kept", verify=True)


def test_a_reference_image_without_pixels_is_refused_where_shapes_are_kept(tmp_path):
    size = Preprocessing(height=8, width=8, channels=3, keep_aspect=True, patch_size=4)
    make_bundle(tmp_path / "kept", preprocessing=size)
    reference = load_file(tmp_path / "kept" / REFERENCE)
    save_file(reference | {"image.0": torch.zeros(3, 0, 8, dtype=torch.uint8)}, tmp_path / "kept" / REFERENCE)
    reseal_bundle(tmp_path / "kept")
    assert "reference" in refusal(tmp_path / "kept", verify=True)
