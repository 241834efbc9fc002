"""Create a model by name or from pretrained weights."""

import os
from dataclasses import replace

from megavit.api.reporters.choose import ReporterChoice, open_reporter
from megavit.config.backbones import BACKBONES
from megavit.config.presets import PRESETS, preset
from megavit.config.vit import Design, Size, ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.training.progress import Reporter
from megavit.training.setup.pretrained import fetch_progress
from megavit.weights.backbones.fetch import load_source
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained

SIZES = ("dim", "depth", "heads", "mlp_dim")


def create_model(
    name: str | None = None,
    *,
    pretrained: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    image_size: Size | None = None,
    patch_size: Size | None = None,
    channels: int | None = None,
    design: Design | None = None,
    reporter: ReporterChoice = "auto",
) -> MegaVit:
    """Create a model of a published size, or of pretrained weights, as a PyTorch module in training mode.

    Args:
        name: name of a preset, such as "S". With `pretrained`, which defines the model, its width, depth and heads must
            be those of the preset; None for any.
        pretrained: weights: the name of a backbone, a bundle or `Run`, another library's checkpoint, timm:NAME or
            hf-hub:USER/NAME; None for new weights.
        num_classes: outputs of a new head, 0 for none; None for the head of the weights, and without weights for 1000.
        image_size: size in pixels; None for that of the preset or the weights, whose positions are else resampled.
        patch_size, design: other parts than the preset's; the weights define their own.
        channels: image channels; None for 3 or those of the weights, which can be adapted to 1.
        reporter: where the download of a backbone is shown, as for `megavit.train`.

    Raises:
        BundleError: if the weights cannot be found, fetched or read.
        ConfigError: if the name is unknown, or sizes do not fit together.
    """
    if pretrained is None:
        if name is None:
            raise ConfigError(f"name a preset, {', '.join(PRESETS)}, or pass weights as pretrained")
        config = preset(
            name,
            num_classes=1000 if num_classes is None else num_classes,
            image_size=image_size,
            patch_size=patch_size,
            channels=3 if channels is None else channels,
            design=design,
        )
        return MegaVit.from_config(config)
    if patch_size is not None or design is not None:
        raise ConfigError("patch_size and design are those of the pretrained weights: leave them out")
    with open_reporter(reporter) as shown:
        weights = _load(os.fspath(pretrained), shown, with_head=num_classes is None)
    config = weights.config
    if name is not None:
        _check_sizes(name, weights)
    config = replace(
        config,
        num_classes=config.num_classes if num_classes is None else num_classes,
        image_size=config.image_size if image_size is None else image_size,
        channels=config.channels if channels is None else channels,
    )
    model = MegaVit.from_config(config)
    initialize_from(model, weights, head=num_classes is None)
    return model


def _load(source: str, reporter: Reporter, *, with_head: bool) -> PretrainedModel:
    if with_head and source not in BACKBONES:
        return load_pretrained(source)
    weights = load_source(source, reporter.say, fetch_progress(reporter))
    # Backbones are features: what head their files have is of other classes.
    return replace(weights, config=replace(weights.config, num_classes=0)) if with_head else weights


def _check_sizes(name: str, weights: PretrainedModel) -> None:
    """Raise a ConfigError unless the weights have the sizes of a preset."""
    expected: ViTConfig = preset(name)
    different = [
        f"{size} {getattr(weights.config, size)} instead of {getattr(expected, size)}"
        for size in SIZES
        if getattr(weights.config, size) != getattr(expected, size)
    ]
    if different:
        raise ConfigError(
            f"the weights of {weights.name} are not of the size {name}: {', '.join(different)}; leave out the name to "
            "take the size of the weights"
        )
