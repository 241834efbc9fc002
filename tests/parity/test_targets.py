"""What a model's outputs mean survives every way out and back: the judges are the other libraries themselves."""

from pathlib import Path

import pytest

from benchmarks.conversion.cases import (
    ARCHITECTURES,
    CASES,
    PROBLEMS,
    REFUSED,
    write_case,
    write_photographs,
    write_transformers,
)
from benchmarks.conversion.ways import WAYS, difference, predict_with_bundle, predict_with_pipeline
from megavit.errors import BundleError
from megavit.weights.bundle.bundle import read_info
from megavit.weights.pretrained.pretrained import load_pretrained
from megavit.weights.pretrained.to_bundle import convert_to_bundle

# Every case through both libraries, and one of each kind through the runtimes, which are slower.
OUTWARD = [
    *((case, way) for case in CASES for way in ("Hugging Face, its pipeline", "timm, transformers' pipeline")),
    ("classification", "timm, its own transform"),
    *((case, "timm, and back") for case in ("calibrated classes", "calibrated labels", "regression")),
    *((case, "Hugging Face, and back") for case in ("calibrated classes", "calibrated labels", "regression")),
    ("calibrated labels", "ONNX, onnxruntime"),
    ("regression", "OpenVINO"),
    ("calibrated classes", "quantize"),
]
INWARD = [
    *((problem, "ViT") for problem in PROBLEMS),
    *(("multi_label_classification", architecture) for architecture in ARCHITECTURES[1:]),
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {name: write_case(folder / name, case) for name, case in (CASES | REFUSED).items()}


@pytest.mark.parametrize("case, way", OUTWARD)
def test_answers_are_the_same_at_the_end_of_every_way(
    bundles: dict[str, Path], photographs: list[Path], tmp_path: Path, case: str, way: str
) -> None:
    assert difference(WAYS[way], bundles[case], photographs, tmp_path / "way") < 1e-4


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("library", ["Hugging Face", "timm"])
def test_what_a_library_would_answer_otherwise_is_not_written(
    bundles: dict[str, Path], tmp_path: Path, case: str, library: str
) -> None:
    with pytest.raises(BundleError, match="other libraries"):
        difference(WAYS[f"{library}, and back"], bundles[case], [], tmp_path / "way")
    assert not list((tmp_path / "way").iterdir())


@pytest.mark.parametrize("problem, architecture", INWARD)
def test_a_model_of_transformers_answers_as_its_pipeline_does(
    photographs: list[Path], tmp_path: Path, problem: str, architecture: str
) -> None:
    settings, kind = PROBLEMS[problem]
    folder = write_transformers(tmp_path / "theirs", architecture, settings)
    convert_to_bundle(load_pretrained(str(folder)), tmp_path / "ours")
    info = read_info(tmp_path / "ours")
    assert info.target.kind == kind
    theirs = predict_with_pipeline(folder, photographs, info.labels or ["LABEL_0"])
    assert abs(predict_with_bundle(tmp_path / "ours", photographs) - theirs).max() < 1e-4
