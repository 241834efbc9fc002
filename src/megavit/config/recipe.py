"""What a training run is, as frozen dataclasses: everything that changes its result is in here.

`None` and "auto" mean that the run decides from the data and the machine; the recipe written beside the
run has every such place filled in, so that it says what happened.
"""

from dataclasses import dataclass, field
from typing import Literal

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
    checked,
)
from megavit.config.presets import PRESETS
from megavit.config.vit import Mlp
from megavit.errors import ConfigError

Balance = Literal["auto", "none", "loss", "sampler", "logits"]
OnCorrupt = Literal["skip", "fail"]
OptimizerKind = Literal["muon", "adamw"]
ScheduleKind = Literal["cosine", "linear"]
Precision = Literal["auto", "float32", "bfloat16"]
ResolvedPrecision = Literal["float32", "bfloat16"]
TuneMethod = Literal["auto", "probe", "lora", "last", "all"]

# Epochs, or minutes: two years. More is a slip of the finger, and would not fit a machine's numbers.
MAX_DURATION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ModelRecipe(Settings):
    """Which model: a row of the presets with the sizes of the data, or one that has been trained before.

    Attributes:
        init: where weights to begin with are (`megavit.weights.pretrained`), with everything that makes the model of
            theirs; None: fresh ones. The image size and the channels are then theirs too, unless they are given.
        preset: a name of `megavit.config.presets.PRESETS`, or "auto": by the images' size and the time.
        image_size: pixels a side, the image is resized to; None: by the data. With `keep_aspect`, an image has at
            most the patches of such a square.
        patch_size: pixels a side; None: the preset's.
        channels: 1 to 64; None: the images' own, where 1 takes that every training image is gray. Images of 1, 3
            and 4 channels are made gray or RGB for 1 and 3; for any other number the images must have it.
        mlp: non-linearity of the MLP, as in `megavit.config.vit.Design`.
        patch_overlap: pixels by which a patch sees beyond each of its sides.
        dropout: probability in [0, 1).
        drop_path: probability in [0, 1), of the last block.
    """

    init: str | None = None
    preset: str = checked(check_choice, "auto", choices=("auto", *PRESETS))
    image_size: int | None = checked(check_integer, None, minimum=1)
    patch_size: int | None = checked(check_integer, None, minimum=1)
    channels: int | None = checked(check_channels, None)
    mlp: Mlp = "relu2"
    patch_overlap: int = checked(check_integer, 0, minimum=0)
    dropout: float = checked(check_fraction, 0.0)
    drop_path: float = checked(check_fraction, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init is not None and self.preset != "auto":
            raise ConfigError(
                f"init and a preset (--model) both say which model: {self.init!r} brings its own; leave out "
                f"{self.preset!r}"
            )


@dataclass(frozen=True, kw_only=True)
class DataRecipe(Settings):
    """How the images are divided and drawn.

    Attributes:
        val, test: share in [0, 1) of each class (label, or range of scores) kept for validation and test, where
            the data has no such split.
        seed: of the division.
        balance: what to do about classes of different size: "none"; "logits" (the log of each class's share is
            added to its logit in training, arXiv 2007.07314), which found the small ones best where measured
            (`benchmarks/learning/imbalance.py`); "loss" (weights in the loss, inverse to the class's share; of
            labels, capped weights of the images that have them); "sampler" (classes drawn equally often); or
            "auto": "logits" where the largest class has more than ten times the images of the smallest, else "none".
            All but "none" give up some accuracy on the large classes.
        keep_aspect: resize each image with its aspect kept, in about as many patches as `image_size` gives a square,
            and pack them into a batch without padding. Without mixup and CutMix, which take images of one size.
        on_corrupt: where a shard, or an image in one, is not what was written: "skip" (another image of the same
            split and class takes its place, always the same one, so that batches and the order of the others stay;
            each is told) or "fail".
    """

    val: float = checked(check_fraction, 0.1)
    test: float = checked(check_fraction, 0.1)
    seed: int = checked(check_integer, 0, minimum=0)
    balance: Balance = "auto"
    keep_aspect: bool = False
    on_corrupt: OnCorrupt = "skip"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.val + self.test >= 1:
            raise ConfigError(f"val and test together must leave images to train on, got {self.val} + {self.test}")


@dataclass(frozen=True, kw_only=True)
class AugmentRecipe(Settings):
    """How training images are varied.

    Attributes:
        crop: smallest area in (0, 1] of a random crop; 1 for none.
        flip: mirror left and right, half of the time. Wrong for letters and digits.
        rotate: largest angle in degrees, either way.
        shift: largest shift in [0, 1) as a share of the side, either way.
        color: strength in [0, 1) of changes in brightness, contrast and saturation.
        mixup, cutmix: the alpha of their Beta distribution (arXiv 1710.09412, 1905.04899); 0 for none.
            With both, each batch draws one of the two.
        after: passes over the images before any of this begins: new images need no variation.
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
    """The optimizer and the averaging of its weights.

    Attributes:
        kind: "muon" for the matrices within the layers, with AdamW for the rest; or "adamw" for all.
        learning_rate: at its peak, for any width; of matrices `train.optim.optimizer` derives their own from it.
        weight_decay: on matrices; norms, biases, tokens and positions have none.
        beta1, beta2: AdamW's decay of the gradient's first and second moment, in [0, 1).
        clip_norm: largest norm of the whole gradient.
        layer_decay: the learning rate of each layer is so many times that of the one above it, in (0, 1]; the head
            has the whole rate, and what comes before the layers the lowest (arXiv 2111.06377, appendix A). 1 for all
            alike.
        ema: length of the moving average of the weights, which is evaluated and kept: a share in [0, 1) of all
            steps, so that it fits short and long runs; 0 for none.
        label_smoothing: share in [0, 1) of the target spread over all classes, where an image has one class.
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
    """How a run goes on: the learning rate, and how much of each image is trained on early.

    The rate rises linearly over `warmup`, is level over `hold`, then goes down to zero.

    Attributes:
        kind: shape of the way down.
        warmup: share in [0, 1) of the run.
        hold: share in [0, 1) of what comes after the warm-up, at the peak.
        early: share in [0, 1] of the run in which steps are made cheaper by the two settings below.
        patch_drop: share of patches in [0, 1) left out of each early step (arXiv 2212.00794).
        scale: sides in (0, 1] of the images in an early step, of their own, to the next whole patch.
    """

    kind: ScheduleKind = "linear"
    warmup: float = checked(check_fraction, 0.05)
    hold: float = checked(check_fraction, 0.0)
    early: float = checked(check_range, 0.0, low=0, high=1)
    patch_drop: float = checked(check_fraction, 0.0)
    scale: float = checked(check_factor, 1.0)


@dataclass(frozen=True, kw_only=True)
class RunRecipe(Settings):
    """How long and on what.

    Attributes:
        epochs: passes over the training images; None: as many as fit into `minutes`.
        minutes: for the whole command, from its start to its end; used where `epochs` is None.
        batch_size: images a step; None: 128, and fewer where there are few images.
        gradient_accumulation: parts in which a step computes its images, one after the other, for less memory; None:
            as few as are likely to fit.
        gradient_checkpointing: keep only each block's input of a step and compute the rest again on the way back
            (arXiv 1604.06174), for much less memory and a third more time.
        compile: compile each layer (torch.compile): slow first steps, and faster ones on a GPU. On a processor it does
            not pay.
        seed: of initial values, order and augmentation.
        device: "auto", "cpu", "cuda", or "cuda:N".
        precision: of the matrix products; "auto" takes bfloat16 where it measures faster.
        checkpoint_seconds: between two checkpoints; one is also written at a stop and at the end.
        workers: processes that decode images; None: one a processor, at most 8.
    """

    epochs: int | None = checked(check_integer, None, minimum=1, maximum=MAX_DURATION)
    minutes: float = checked(check_positive, 10.0, maximum=MAX_DURATION)
    batch_size: int | None = checked(check_integer, None, minimum=1)
    gradient_accumulation: int | None = checked(check_integer, None, minimum=1)
    gradient_checkpointing: bool = False
    compile: bool = False
    seed: int = checked(check_integer, 0, minimum=0)
    device: str = checked(check_device, "auto")
    precision: Precision = "auto"
    checkpoint_seconds: float = checked(check_positive, 60.0)
    workers: int | None = checked(check_integer, None, minimum=0)


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(Settings):
    """How a model that has been trained before (`ModelRecipe.init`) is fitted to these images.

    Attributes:
        rung: what is trained: "probe", a classifier on the frozen model's features; "lora", low-rank additions to
            its matrices; "last", its last quarter of layers; "all" of it; or "auto": one after the other, as long as
            each is better than the best before it by more than chance, and the best is kept.
        rank: of the low-rank additions.
    """

    rung: TuneMethod = "auto"
    rank: int = checked(check_integer, 8, minimum=1)


@dataclass(frozen=True, kw_only=True)
class ParallelRecipe(Settings):
    """How several processes share the work: PyTorch's DDP, FSDP2, tensor parallelism, and their mixtures.

    The processes form a mesh of (replicate, fsdp, tp), of which the first follows from the other two. The batch size is
    global, whatever their number: each of replicate × fsdp processes has its part of it.

    Attributes:
        nproc: number of processes; None: as many as were started.
        fsdp: FSDP group size: processes that share one copy of weights, gradients and optimizer state.
        tp: tensor parallel group size: processes that split the heads and MLP channels of each layer.
        timeout_seconds: that one process waits for another before the run ends, to be started again.
    """

    nproc: int | None = checked(check_integer, None, minimum=1)
    fsdp: int = checked(check_integer, 1, minimum=1)
    tp: int = checked(check_integer, 1, minimum=1)
    timeout_seconds: float = checked(check_positive, 600.0, maximum=86_400)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nproc is not None and self.nproc % (self.fsdp * self.tp):
            raise ConfigError(f"nproc must divide by fsdp × tp, got {self.nproc} and {self.fsdp} × {self.tp}")

    @property
    def replicate(self) -> int:
        """Copies of the model."""
        return (self.nproc or 1) // (self.fsdp * self.tp)

    @property
    def places(self) -> int:
        """Processes that have different images."""
        return self.replicate * self.fsdp

    @property
    def divides(self) -> bool:
        """Whether no process has a whole model."""
        return self.fsdp > 1 or self.tp > 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training run."""

    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)
    tune: TuneRecipe = field(default_factory=TuneRecipe)
    parallel: ParallelRecipe = field(default_factory=ParallelRecipe)
