"""A bundle of three digits whose head was fitted on the features of a model of random weights."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.evaluation.inference import run_inference
from megavit.evaluation.probes.linear_probe import fit_linear_probes
from megavit.predict.predictor import load
from megavit.training.finetune.finetuner import get_head
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.digits import make_digits_folder
from tests.helpers.shared_folder import BuildOnce

NAMES = ("digit 0", "digit 1", "digit 2")


@pytest.fixture(scope="session")
def added_digits(build_once: BuildOnce) -> Path:
    """Folders of other digits, and of other images of digit 1."""

    def fill(folder: Path) -> None:
        make_digits_folder(folder / "new", (3, 4), slice(30), "digit ")
        make_digits_folder(folder / "more", (1,), slice(40, 60), "digit ")

    return build_once("added_digits", fill)


@pytest.fixture(scope="session")
def digits_bundle(build_once: BuildOnce) -> Path:
    """A bundle beside the images that it was fitted on, in digits/."""

    def fill(folder: Path) -> None:
        source = make_digits_folder(folder / "digits", range(3), slice(40), "digit ")
        images = load_data(source, DataRecipe())
        model = make_model(channels=1, dim=32)
        facts = {
            "data": {"source": str(source), "division": images.split_description, "counts": images.split_sizes()},
            "recipe": {"data": {}},
        }
        make_bundle(folder / "random", model, NAMES, images.samples, **facts)
        output = run_inference(load(folder / "random"), images, images.samples, 64, lambda done, total: None)
        labels = torch.tensor([sample.label for sample in images.samples])
        is_train = torch.tensor([sample.split == "train" for sample in images.samples])
        (probe,) = fit_linear_probes(
            output.pooled[is_train], labels[is_train].double(), _cross_entropy, torch.zeros(3), (0.001,)
        )
        head = get_head(model)
        with torch.no_grad():
            head.weight.copy_(probe.weight)
            head.bias.copy_(probe.bias)
        make_bundle(folder / "bundle", model, NAMES, images.samples, **facts)

    return build_once("digits_bundle", fill) / "bundle"


def make_look_alike(bundle: Path, folder: Path) -> Path:
    """Write the bundle's images of digit 0 into `folder`, each with one pixel changed, and return `folder`."""
    folder.mkdir()
    for path in sorted((bundle.parent / "digits" / NAMES[0]).iterdir()):
        with Image.open(path) as image:
            image.putpixel((0, 0), 1)
            image.save(folder / path.name)
    return folder


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, labels.long())
