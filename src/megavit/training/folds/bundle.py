"""Choose the model of a cross-validation, and write its bundle."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from megavit.data.dataset import samples_csv
from megavit.evaluation.metrics.dispatch import compute_metrics
from megavit.evaluation.uncertainty.measure import HeldOutput, compute_uncertainty
from megavit.predict.predictor import Predictor
from megavit.runtime.device import pick_device
from megavit.training.folds.data import FoldsData
from megavit.training.folds.ensemble import can_average, make_ensemble
from megavit.training.folds.gain import find_shared_outputs, measure_gain
from megavit.training.folds.outputs import FoldOutputs, predict_samples
from megavit.training.folds.plan import get_fold_dir
from megavit.training.progress import Reporter
from megavit.training.report.cross_validation import CrossValidation
from megavit.training.report.finalize import BUNDLE
from megavit.weights.bundle.bundle import Bundle, copy_bundle, load_bundle, read_reference_images, save_bundle


def choose_model(
    run_dir: Path, outputs: Sequence[FoldOutputs], found: CrossValidation
) -> tuple[Bundle, CrossValidation]:
    """Return an ensemble of all folds if averaging brings more than chance, else the model of median quality."""
    selected = load_bundle(get_fold_dir(run_dir, found.selected))
    others = [fold.fold for fold in outputs if fold.fold != found.selected]
    bundles = [selected, *(load_bundle(get_fold_dir(run_dir, fold)) for fold in others)]
    shared = find_shared_outputs(outputs)
    if shared is None or not can_average(bundles):
        return selected, found
    gain = measure_gain(shared, found.kind)
    if gain is None or not gain.is_significant:
        return selected, replace(found, gain=gain)
    ensemble = make_ensemble(bundles, [found.selected, *others], shared)
    return ensemble, replace(found, gain=gain, is_ensemble=True)


def predict_test(chosen: Bundle, data: FoldsData, device: str, reporter: Reporter) -> HeldOutput | None:
    """Return the model's output for the test images that the data defines, which are in no fold; None without any."""
    samples = data.test_samples
    if not samples:
        return None
    reporter.say("evaluating on the test images")
    predictor = Predictor(chosen, pick_device(device))
    return predict_samples(
        predictor, data.whole, samples, lambda done, total: reporter.progress("evaluating", done, total)
    )


def write_bundle(
    run_dir: Path, chosen: Bundle, found: CrossValidation, data: FoldsData, test: HeldOutput | None
) -> Path:
    """Write the chosen model, and what the cross-validation found, as the bundle of the run; return its folder."""
    bundle = run_dir / BUNDLE
    record = {
        "folds": len(found.folds),
        "fold": found.selected,
        "is_ensemble": found.is_ensemble,
        "images": found.metrics.images,
        "summary": found.headline,
    }
    info = replace(chosen.info, data=chosen.info.data | {"cross_validation": record})
    if not found.is_ensemble:
        if bundle.exists():  # of an earlier end of this run
            shutil.rmtree(bundle)
        copy_bundle(chosen.folder, bundle, info)
        return bundle
    samples = data.list_ensemble_samples()
    counts = Counter(sample.split for sample in samples)
    division = f"{len(found.folds)} folds, each of which was trained on by all models but one"
    info = replace(info, data=info.data | {"counts": dict(counts), "division": division})
    if test is not None:
        metrics = compute_metrics(test.predicted, test.targets, data.whole.classes, info.target)
        measured = compute_uncertainty(test.calibrator, test.output, test.targets).to_dict()
        calibration = replace(info.calibration, test_metrics=measured)
        info = replace(info, metrics=metrics.to_dict(), calibration=calibration)
    save_bundle(
        bundle,
        chosen.model,
        info,
        reference=read_reference_images(chosen.folder),
        samples=samples_csv(samples, data.whole.classes, data.whole.target),
        calibration_tensors=chosen.calibration_tensors,
    )
    return bundle
