"""MegaVit: train, evaluate and use a Vision Transformer.

    import megavit
    run = megavit.train("flowers", minutes=5)
    print(run.load().predict("photo.jpg").label)

Names are imported on first use, so `import megavit` does not import torch.
"""

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from megavit.api.calibrate import calibrate as calibrate
    from megavit.api.calibrate import quantize as quantize
    from megavit.api.check import check as check
    from megavit.api.classes import add_classes as add_classes
    from megavit.api.classes import remove_classes as remove_classes
    from megavit.api.convert import convert as convert
    from megavit.api.evaluate import evaluate as evaluate
    from megavit.api.export import export as export
    from megavit.api.label import apply_labels as apply_labels
    from megavit.api.label import label as label
    from megavit.api.models import create_model as create_model
    from megavit.api.pretrain import pretrain as pretrain
    from megavit.api.pretrain import resume_pretraining as resume_pretraining
    from megavit.api.push import push as push
    from megavit.api.search import index_images as index_images
    from megavit.api.serve import serve as serve
    from megavit.api.train import resume as resume
    from megavit.api.train import train as train
    from megavit.config.presets import preset as preset
    from megavit.config.vit import PLAIN_VIT as PLAIN_VIT
    from megavit.config.vit import Design as Design
    from megavit.config.vit import ViTConfig as ViTConfig
    from megavit.data.sources.table_options import Table as Table
    from megavit.errors import MegavitError as MegavitError
    from megavit.explain.explanation import Explanation as Explanation
    from megavit.explain.explanation import explain_image as explain_image
    from megavit.model.vit import Features as Features
    from megavit.model.vit import MegaVit as MegaVit
    from megavit.predict.exported_predictor import ExportedPredictor as ExportedPredictor
    from megavit.predict.exported_predictor import load_exported as load_exported
    from megavit.predict.prediction import Prediction as Prediction
    from megavit.predict.predictor import Predictor as Predictor
    from megavit.predict.predictor import load as load
    from megavit.training.incremental.result import ClassAddition as ClassAddition
    from megavit.training.incremental.result import ClassRemoval as ClassRemoval
    from megavit.training.pretraining.finish import PretrainingRun as PretrainingRun
    from megavit.training.report.result import Run as Run

__version__ = "0.1.0"

_HOME = {
    "train": "megavit.api.train",
    "resume": "megavit.api.train",
    "pretrain": "megavit.api.pretrain",
    "resume_pretraining": "megavit.api.pretrain",
    "add_classes": "megavit.api.classes",
    "remove_classes": "megavit.api.classes",
    "check": "megavit.api.check",
    "evaluate": "megavit.api.evaluate",
    "calibrate": "megavit.api.calibrate",
    "quantize": "megavit.api.calibrate",
    "export": "megavit.api.export",
    "convert": "megavit.api.convert",
    "create_model": "megavit.api.models",
    "index_images": "megavit.api.search",
    "label": "megavit.api.label",
    "apply_labels": "megavit.api.label",
    "serve": "megavit.api.serve",
    "Design": "megavit.config.vit",
    "PLAIN_VIT": "megavit.config.vit",
    "ViTConfig": "megavit.config.vit",
    "preset": "megavit.config.presets",
    "push": "megavit.api.push",
    "Table": "megavit.data.sources.table_options",
    "MegavitError": "megavit.errors",
    "Explanation": "megavit.explain.explanation",
    "explain_image": "megavit.explain.explanation",
    "MegaVit": "megavit.model.vit",
    "Features": "megavit.model.vit",
    "ExportedPredictor": "megavit.predict.exported_predictor",
    "load_exported": "megavit.predict.exported_predictor",
    "Prediction": "megavit.predict.prediction",
    "Predictor": "megavit.predict.predictor",
    "load": "megavit.predict.predictor",
    "ClassAddition": "megavit.training.incremental.result",
    "ClassRemoval": "megavit.training.incremental.result",
    "PretrainingRun": "megavit.training.pretraining.finish",
    "Run": "megavit.training.report.result",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'megavit' has no attribute {name!r}")
    # PyTorch's import creates a million objects and no garbage; collecting would take a tenth of its time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return getattr(import_module(_HOME[name]), name)
    finally:
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return sorted(__all__)
