"""Define the settings that determine the result of a training run.

None and "auto" are resolved from the data and the machine; the recipe saved with the run has the resolved values.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from megavit.config.checks import (
    Settings,
    check_channels,
    check_choice,
    check_device,
    check_factor,
    check_fraction,
    check_integer,
    check_positive,
    check_range,
    check_text,
    checked,
)
from megavit.config.distillation import DistillationRecipe
from megavit.config.presets import PRESETS
from megavit.config.pretraining import PretrainingRecipe, PseudoLabelRecipe
from megavit.config.vit import Mlp, Norm, Stem
from megavit.errors import ConfigError

Balance = Literal["auto", "none", "loss", "sampler", "logits"]
OnCorrupt = Literal["skip", "fail"]
OptimizerKind = Literal["muon", "adamw"]
ScheduleKind = Literal["cosine", "linear"]
Precision = Literal["auto", "float32", "bfloat16"]
ResolvedPrecision = Literal["float32", "bfloat16"]
TrackerName = Literal["tensorboard", "mlflow", "trackio", "wandb"]
FinetuneMethod = Literal["auto", "probe", "last", "lora", "all"]

# Values of `ModelRecipe.pretrained` that name no weights.
AUTO, SCRATCH = "auto", "scratch"
# Largest number of epochs, or of minutes (two years).
MAX_DURATION = 1_000_000
MAX_FOLDS = 100


@dataclass(frozen=True, kw_only=True)
class ModelRecipe(Settings):
    """The choice of the model: a preset adapted to the data, or pretrained weights.

    Attributes:
        pretrained: source of pretrained weights, which determine the model and, unless given here, its image size and
            channels: a name in `megavit.config.backbones.BACKBONES`, or any source of `megavit.weights.pretrained`;
            "scratch" for none; "auto" for the first backbone at hand, which small gray images and letters never use.
        preset: name in `megavit.config.presets.PRESETS`, or "auto" to choose by image size and training time.
        image_size: side in pixels to which images are resized; None to choose by the data. With `keep_aspect`, an
            image has at most as many patches as such a square.
        patch_size: side of a patch in pixels; None for the preset's.
        channels: 1 to 64; None for the images' own, which is 1 only if every training image is gray. Images of 1, 3
            and 4 channels are converted to gray or RGB for 1 and 3; any other number must match the images.
        mlp: activation of the MLP, as in `megavit.config.vit.Design`.
        stem: "patch" or "conv", as in `megavit.Design`; None for the preset's.
        norm: as in `megavit.Design`; None for the preset's, with "layer" in place of "batch" for several processes,
            whose batches would differ, and with `keep_aspect`.
        dropout: dropout probability in [0, 1).
        drop_path: probability in [0, 1) of skipping the last block's branches.
    """

    pretrained: str = SCRATCH
    preset: str = checked(check_choice, "auto", choices=("auto", *PRESETS))
    image_size: int | None = checked(check_integer, None, minimum=1)
    patch_size: int | None = checked(check_integer, None, minimum=1)
    channels: int | None = checked(check_channels, None)
    mlp: Mlp = "relu2"
    stem: Stem | None = None
    norm: Norm | None = None
    dropout: float = checked(check_fraction, 0.0)
    drop_path: float = checked(check_fraction, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source is not None and self.preset != "auto":
            raise ConfigError(
                f"pretrained (--from) and preset (--model) both set the model: leave out {self.preset!r} to use that "
                f"of {self.source!r}"
            )

    @property
    def source(self) -> str | None:
        """The source of the pretrained weights; None for "scratch", and for "auto" before it is resolved."""
        return None if self.pretrained in (AUTO, SCRATCH) else self.pretrained


@dataclass(frozen=True, kw_only=True)
class DataRecipe(Settings):
    """The splitting and sampling of the images.

    Attributes:
        val, test: share in [0, 1) of each class (label, or range of scores) for validation and test, if the data does
            not define the split.
        seed: random seed of the split.
        folds: number of folds of a cross-validation; None for none. `test` has no meaning then.
        fold: fold, 1 to `folds`, whose images are the test images of a single run; None to train all folds.
        balance: treatment of class imbalance: "none"; "logits" (adds the log of each class's share to its logit in
            training, arXiv 2007.07314), the best on small classes in `benchmarks/learning/imbalance.py`; "loss"
            (weights the loss by the inverse share of the class; for labels, with capped weights of their images);
            "sampler" (draws classes equally often); or "auto": "logits" if the largest class has more than ten times
            the images of the smallest, else "none". All but "none" cost accuracy on large classes.
        keep_aspect: whether images keep their aspect, with at most as many patches as a square of `image_size`, and
            are packed into a batch without padding. Excludes mixup and CutMix.
        on_corrupt: treatment of a shard, or an image in one, that differs from what was written: "skip" (reports it
            and always replaces an image by the same other one of its split and class) or "fail".
        path_column, label_column: names of a table's columns of images and labels; None to find them by their names.
        image_root: folder that the paths in a table are relative to; None for the table's, or one beside it.
    """

    val: float = checked(check_fraction, 0.1)
    test: float = checked(check_fraction, 0.1)
    seed: int = checked(check_integer, 0, minimum=0)
    folds: int | None = checked(check_integer, None, minimum=2, maximum=MAX_FOLDS)
    fold: int | None = checked(check_integer, None, minimum=1)
    balance: Balance = "auto"
    keep_aspect: bool = False
    on_corrupt: OnCorrupt = "skip"
    path_column: str | None = checked(check_text, None)
    label_column: str | None = checked(check_text, None)
    image_root: str | None = checked(check_text, None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val + self.test >= 1:
            raise ConfigError(f"val + test must be below 1, to leave images to train on; got {self.val} + {self.test}")
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ConfigError(f"fold must be a number from 1 to folds; got fold {self.fold} and folds {self.folds}")


@dataclass(frozen=True, kw_only=True)
class AugmentRecipe(Settings):
    """The augmentation of training images.

    Attributes:
        crop: smallest area in (0, 1] of a random crop; 1 for none.
        flip: whether half of the images are mirrored horizontally; unsuitable for letters and digits.
        rotate: largest rotation in degrees, in either direction.
        shift: largest shift in [0, 1) as a share of the side, in either direction.
        color: strength in [0, 1) of changes in brightness, contrast and saturation.
        mixup, cutmix: alpha of the Beta distribution (arXiv 1710.09412, 1905.04899); 0 for none. With both, each
            batch uses one of the two at random.
        after: epochs before augmentation begins.
    """

    crop: float = checked(check_factor, 1.0)
    flip: bool = False
    rotate: float = checked(check_range, 0.0, low=0, high=180)
    shift: float = checked(check_fraction, 0.0)
    color: float = checked(check_fraction, 0.0)
    mixup: float = checked(check_range, 0.0, low=0, high=10)
    cutmix: float = checked(check_range, 0.0, low=0, high=10)
    after: float = checked(check_range, 0.0, low=0, high=MAX_DURATION)


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe(Settings):
    """The optimizer and the moving average of the weights.

    Attributes:
        kind: "muon" for matrices within the layers and AdamW for the rest, or "adamw" for all parameters.
        learning_rate: peak learning rate, for any width; `train.optim.optimizer` derives that of matrices from it.
        weight_decay: weight decay of matrices; norms, biases, tokens and positions have none.
        beta1, beta2: AdamW's decay rates of the first and second moments, in [0, 1).
        clip_norm: largest global gradient norm.
        layer_decay: ratio in (0, 1] of a layer's learning rate to that of the layer above it; the head has the full
            rate, and the embedding the lowest (arXiv 2111.06377, appendix A). 1 for equal rates.
        ema: length of the exponential moving average of the weights, which is evaluated and saved, as a share in
            [0, 1) of all steps; 0 for none.
        label_smoothing: share in [0, 1) of the target spread over all classes, for single-class targets.
    """

    kind: OptimizerKind = "muon"
    learning_rate: float = checked(check_positive, 3e-3)
    weight_decay: float = checked(check_range, 0.05, low=0, high=10)
    beta1: float = checked(check_fraction, 0.9)
    beta2: float = checked(check_fraction, 0.98)
    clip_norm: float = checked(check_positive, 1.0)
    layer_decay: float = checked(check_factor, 1.0)
    ema: float = checked(check_fraction, 0.02)
    label_smoothing: float = checked(check_fraction, 0.1)


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe(Settings):
    """The schedule of the learning rate, and cheaper steps early in training.

    The learning rate rises linearly over `warmup`, is constant over `hold`, then decays to zero.

    Attributes:
        kind: shape of the decay.
        warmup: share in [0, 1) of the run.
        hold: share in [0, 1) of the run after warmup.
        early: share in [0, 1] of the run that uses the two settings below.
        patch_drop: share in [0, 1) of patches dropped in each early step (arXiv 2212.00794).
        scale: ratio in (0, 1] of the images' sides in an early step, rounded to whole patches.
    """

    kind: ScheduleKind = "linear"
    warmup: float = checked(check_fraction, 0.05)
    hold: float = checked(check_fraction, 0.0)
    early: float = checked(check_range, 0.0, low=0, high=1)
    patch_drop: float = checked(check_fraction, 0.0)
    scale: float = checked(check_factor, 1.0)


@dataclass(frozen=True, kw_only=True)
class RunRecipe(Settings):
    """The duration, batches and device of a training run.

    Attributes:
        epochs: passes over the training images; None for as many as fit into `minutes`.
        minutes: time limit of the command in minutes, used if `epochs` is None.
        patience: epochs without a better validation after which training stops, for a run by epochs from scratch;
            None to train to the end.
        batch_size: global batch size; None for 128, or less if there are fewer than 20,000 images.
        gradient_accumulation: sequential parts of a step, to save memory; None for as few as are likely to fit.
        gradient_checkpointing: whether activations within a block are recomputed in the backward pass
            (arXiv 1604.06174), for much less memory and a third more time.
        compile: whether each layer is compiled by torch.compile, which pays off on GPUs only.
        seed: random seed of initialization, order and augmentation.
        device: "auto", "cpu", "cuda", "cuda:N", "mps", "xpu" or "xpu:N".
        precision: precision of matrix products; "auto" uses bfloat16 if it measures faster.
        checkpoint_seconds: seconds between checkpoints; one is also written when the run stops or ends.
        workers: number of processes that decode images; None for one per CPU, at most 8.
        log_seconds: seconds between two lines about steps in the log.
        track: experiment tracker that the log is forwarded to; None for none.
    """

    epochs: int | None = checked(check_integer, None, minimum=1, maximum=MAX_DURATION)
    minutes: float = checked(check_positive, 10.0, maximum=MAX_DURATION)
    patience: int | None = checked(check_integer, None, minimum=1, maximum=MAX_DURATION)
    batch_size: int | None = checked(check_integer, None, minimum=1)
    gradient_accumulation: int | None = checked(check_integer, None, minimum=1)
    gradient_checkpointing: bool = False
    compile: bool = False
    seed: int = checked(check_integer, 0, minimum=0)
    device: str = checked(check_device, "auto")
    precision: Precision = "auto"
    checkpoint_seconds: float = checked(check_positive, 60.0)
    workers: int | None = checked(check_integer, None, minimum=0)
    log_seconds: float = checked(check_positive, 10.0)
    track: str | None = checked(check_choice, None, choices=get_args(TrackerName))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and self.epochs is None:
            raise ConfigError(
                f"patience ({self.patience}) is for a run by epochs; one by minutes is as long as they are: set epochs "
                "too, or leave patience out"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(Settings):
    """The fine-tuning of a pretrained model (`ModelRecipe.pretrained`).

    Attributes:
        method: trained part of the model: "probe" (a linear classifier on frozen features), "last" (the last quarter
            of the layers), "lora" (low-rank adapters), "all", or "auto": each in turn, as long as there is time. The
            bundle has the best of them and, of any method, the probe if that is better on held-out images.
        rank: rank of the low-rank adapters.
    """

    method: FinetuneMethod = "auto"
    rank: int = checked(check_integer, 8, minimum=1)


@dataclass(frozen=True, kw_only=True)
class ParallelRecipe(Settings):
    """The distribution of training over processes: DDP, FSDP2, tensor parallelism, and their combinations.

    The processes form a mesh (replicate, fsdp, tp), whose first size follows from the others. The global batch size is
    independent of it and divided over replicate × fsdp processes.

    Attributes:
        nproc: number of processes; None for as many as were started.
        fsdp: FSDP group size: processes that share one copy of weights, gradients and optimizer state.
        tp: tensor parallel group size: processes that split the heads and MLP channels of each layer.
        timeout_seconds: seconds that one process waits for another before the run ends, to be restarted.
    """

    nproc: int | None = checked(check_integer, None, minimum=1)
    fsdp: int = checked(check_integer, 1, minimum=1)
    tp: int = checked(check_integer, 1, minimum=1)
    timeout_seconds: float = checked(check_positive, 600.0, maximum=86_400)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nproc is not None and self.nproc % (self.fsdp * self.tp):
            raise ConfigError(f"nproc must be divisible by fsdp × tp, got {self.nproc} and {self.fsdp} × {self.tp}")

    @property
    def replicate(self) -> int:
        """The number of copies of the model."""
        return (self.nproc or 1) // (self.fsdp * self.tp)

    @property
    def dp_world_size(self) -> int:
        """The number of processes that get different images."""
        return self.replicate * self.fsdp

    @property
    def is_sharded(self) -> bool:
        """Whether the model is sharded, so that no process holds all of it."""
        return self.fsdp > 1 or self.tp > 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The complete settings of a training run.

    `distillation` is None without a teacher, `pseudo_labels` if all images have labels, `pretraining` if any has.
    """

    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)
    finetune: FinetuneRecipe = field(default_factory=FinetuneRecipe)
    distillation: DistillationRecipe | None = None
    pseudo_labels: PseudoLabelRecipe | None = None
    pretraining: PretrainingRecipe | None = None
    parallel: ParallelRecipe = field(default_factory=ParallelRecipe)
