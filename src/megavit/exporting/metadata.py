"""Create the metadata stored in an exported model."""

import json
from pathlib import Path

from megavit.config.export_info import COVERAGES, ExportInfo, ExportPrecision, InputKind
from megavit.config.serialization import to_dict
from megavit.exporting.resize import input_channels
from megavit.predict.predictor import Predictor


def export_info(predictor: Predictor, input: InputKind, precision: ExportPrecision) -> ExportInfo:
    """Return the metadata of a bundle's export, with prediction sets or intervals for the supported `COVERAGES`."""
    bundle, calibrator = predictor.info, predictor.calibrator
    covered = [coverage for coverage in COVERAGES if calibrator.supports_coverage(coverage)]
    sets = calibrator.sets
    return ExportInfo(
        name=bundle_name(predictor.folder),
        created=bundle.created,
        target=predictor.target,
        labels=list(predictor.labels),
        thresholds=bundle.target.thresholds,
        ood_threshold=bundle.calibration.ood_threshold,
        sets=None if sets is None else {str(coverage): sets.limits(coverage).tolist() for coverage in covered},
        intervals=None
        if calibrator.residuals is None
        else {str(coverage): calibrator.interval_half_width(coverage) for coverage in covered},
        input=input,
        channels=input_channels(bundle.preprocessing) if input == "pixels" else bundle.preprocessing.channels,
        height=bundle.preprocessing.height,
        width=bundle.preprocessing.width,
        preprocessing=bundle.preprocessing,
        precision=precision,
    )


def bundle_name(folder: Path) -> str:
    """Return the name of a bundle's folder, or of the training run that the bundle is in."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "bundle" else folder.name


def as_json(info: ExportInfo) -> str:
    return json.dumps(to_dict(info), ensure_ascii=True)
