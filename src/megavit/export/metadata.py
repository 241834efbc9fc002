"""What an exported model is told of its bundle, so that it needs nothing beside it."""

import json
from pathlib import Path

from megavit.config.export_info import COVERAGES, ExportInfo, ExportPrecision, InputKind
from megavit.config.serialization import to_dict
from megavit.export.resize import input_channels
from megavit.predict.predictor import Predictor


def export_info(predictor: Predictor, input: InputKind, precision: ExportPrecision) -> ExportInfo:
    bundle, trusted = predictor.info, predictor.calibrator
    covered = [coverage for coverage in COVERAGES if trusted.supports_coverage(coverage)]
    sets = trusted.sets
    return ExportInfo(
        name=bundle_name(predictor.folder),
        created=bundle.created,
        target=predictor.target,
        labels=list(predictor.labels),
        thresholds=bundle.target.thresholds,
        ood_threshold=bundle.calibration.ood_threshold,
        sets=None if sets is None else {str(coverage): sets.limits(coverage).tolist() for coverage in covered},
        intervals=None
        if trusted.residuals is None
        else {str(coverage): trusted.interval_half_width(coverage) for coverage in covered},
        input=input,
        channels=input_channels(bundle.preprocessing) if input == "pixels" else bundle.preprocessing.channels,
        height=bundle.preprocessing.height,
        width=bundle.preprocessing.width,
        preprocessing=bundle.preprocessing,
        precision=precision,
    )


def bundle_name(folder: Path) -> str:
    """What a bundle is called: its folder's name, or for the bundle in a run's folder the run's."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "bundle" else folder.name


def as_json(info: ExportInfo) -> str:
    return json.dumps(to_dict(info), ensure_ascii=True)
