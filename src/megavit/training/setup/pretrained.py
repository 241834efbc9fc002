"""Choose the pretrained weights of a run by itself: those at hand, those that can be fetched, or none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from megavit.config.backbones import BACKBONES, Backbone, Included, Wheel
from megavit.config.recipe import AUTO, Recipe
from megavit.config.serialization import merge
from megavit.data.image_dataset import COLOR_CHANNELS, can_convert_channels
from megavit.errors import BundleError, ConfigError
from megavit.runtime.hub import is_offline
from megavit.training.context import RunContext, TrainRequest
from megavit.training.loop.build import adapt_preprocessing, make_model_config
from megavit.training.progress import Reporter
from megavit.training.setup.resolution import find_lack_of_time
from megavit.training.setup.sizes import check_resources, choose_recipe, get_base_recipe, resolve_pretrained
from megavit.training.setup.targets import NEEDS_WEIGHTS
from megavit.weights.backbones.download import OnBytes, Patience
from megavit.weights.backbones.fetch import describe_download, fetch_backbone, load_backbone
from megavit.weights.backbones.local import FOLDER_SETTING, LocalBackbone, find_backbones
from megavit.weights.pretrained.pretrained import PretrainedModel

# Nobody asked for the download, so it must begin soon; a server answers in 5 seconds, and pip starts in less than 3.
ANSWER_SECONDS, BEGIN_SECONDS, STALL_SECONDS = 5.0, 8.0, 15.0
MAX_BUDGET_SHARE = 1 / 3
"""Largest share of the remaining time of a run that the download takes."""
# With so many images a class or fewer, the backbone in this package comes before a larger one in a package index, of
# which it was within 4 points with 5 to 100 (docs/benchmarks.md), without a download.
MAX_INCLUDED_IMAGES = 300
# Settings that change the model's design, which that of a backbone cannot follow.
DESIGN = ("preset", "patch_size", "mlp", "stem", "norm")
HELP = f"to start from weights, run megavit backbones NAME with a network, set {FOLDER_SETTING}, or pass --from PATH"


def choose_weights(ctx: RunContext, request: TrainRequest) -> PretrainedModel | None:
    """Return the weights of a request, for "auto" those of the first backbone that can be used; None for scratch.

    Raises:
        ConfigError: if settings need pretrained weights, but there are none.
    """
    if request.pretrained is not None:
        return request.pretrained
    recipe = merge(get_base_recipe(request.recipe, ctx.dataset), request.overrides, "the recipe")
    if recipe.model.pretrained == AUTO and recipe.distillation is None:
        # Also sent to the other processes, whose machines may have other files.
        found = ctx.dist.run_on_main(lambda: Search(ctx, recipe, request.overrides).find(), wait_long=True)
        if found is not None:
            return found
    if recipe.finetune.method != AUTO:
        raise ConfigError(
            f"fine-tuning (--finetune {recipe.finetune.method}) needs pretrained weights, but this run has none: name "
            "them with --from, or leave --finetune out"
        )
    if recipe.pseudo_labels is not None:
        raise ConfigError(NEEDS_WEIGHTS)
    return None


def fetch_progress(reporter: Reporter) -> Callable[[Backbone], OnBytes]:
    """Return a function that makes the progress of a download for a reporter, in megabytes."""

    def follow(backbone: Backbone) -> OnBytes:
        total = backbone.num_bytes // 10**6
        return lambda done: reporter.progress(f"fetching {backbone.name} (MB)", min(done // 10**6, total), total)

    return follow


class Search:
    """The search for a backbone that fits a recipe and its images; it reports what it finds, or why there is none."""

    def __init__(self, ctx: RunContext, recipe: Recipe, overrides: dict[str, Any]) -> None:
        self.ctx, self.recipe, self.overrides = ctx, recipe, overrides
        self._too_slow: str | None = None

    def find(self) -> PretrainedModel | None:
        """Return the weights of the first backbone that can be used, or None."""
        say = self.ctx.reporter.say
        reason = self._obstacle()
        if reason is not None:
            say(f"training starts from scratch: {reason}")
            return None
        included: list[LocalBackbone] = []
        for local in find_backbones():
            if not self._fits(local.backbone):
                continue
            if isinstance(local.backbone.where, Included):
                included.append(local)
            elif (found := self._load(local.backbone, local.path)) is not None:
                return found
        on_hub, in_wheels = self._downloads()
        if (found := self._fetch(on_hub)) is not None:
            return found
        searches = [lambda: self._load_first(included), lambda: self._fetch(in_wheels)]
        if self.ctx.dataset.split_sizes()["train"] > MAX_INCLUDED_IMAGES * max(1, len(self.ctx.dataset.classes)):
            searches.reverse()
        for search in searches:
            if (found := search()) is not None:
                return found
        if self._too_slow is not None:
            reason = f"{self._too_slow}; --from NAME uses a backbone all the same"
        elif is_offline():
            reason = f"no backbone is on this machine, and HF_HUB_OFFLINE is set; {HELP}"
        else:
            reason = f"no backbone is on this machine, and none could be fetched; {HELP}"
        say(f"training starts from scratch: {reason}")
        return None

    def _load_first(self, backbones: list[LocalBackbone]) -> PretrainedModel | None:
        """Return the weights of the first of the backbones on this machine that can be used, or None."""
        loaded = (self._load(local.backbone, local.path) for local in backbones)
        return next((found for found in loaded if found is not None), None)

    def _fetch(self, backbones: list[Backbone]) -> PretrainedModel | None:
        """Return the weights of the first of the backbones that can be fetched; None if one at hand is too slow."""
        for backbone in backbones if self._too_slow is None and not is_offline() else []:
            self.ctx.reporter.say(describe_download(backbone))
            try:
                path = fetch_backbone(backbone, self._patience(), fetch_progress(self.ctx.reporter)(backbone))
            except BundleError as error:
                self.ctx.reporter.say(str(error))
            else:
                if (found := self._load(backbone, path)) is not None:
                    return found
        return None

    def _obstacle(self) -> str | None:
        """Return the reason why no backbone can serve, if there is one."""
        dataset, model = self.ctx.dataset, self.recipe.model
        if choose_recipe(dataset) == "small":
            return (
                "its images are small and gray, or like letters that must not be mirrored, and backbones are not made "
                "for these; --from NAME uses one all the same"
            )
        designed = [name for name in DESIGN if self.overrides.get("model", {}).get(name) not in (None, AUTO)]
        if designed:
            parts = " and ".join(name.replace("_", " ") for name in designed)
            return f"the model's {parts} {'is' if len(designed) == 1 else 'are'} set, and a backbone has its own design"
        channels = model.channels or 3
        present = {sample.channels for sample in dataset.samples}
        if channels not in COLOR_CHANNELS or not all(can_convert_channels(number, channels) for number in present):
            listed = " and ".join(map(str, sorted({model.channels} if model.channels else present)))
            return f"its images have {listed} channels, and backbones are for gray and RGB images"
        if self.ctx.dist.is_distributed and self.recipe.finetune.method != "all":
            return "several processes can only fine-tune all layers of a backbone, which --finetune all does"
        if not any(map(self._fits, BACKBONES.values())):
            sizes = " or ".join(map(str, sorted({backbone.patch_size for backbone in BACKBONES.values()})))
            return f"an image size of {model.image_size} is no multiple of a backbone's patch, {sizes} pixels"
        return None

    def _fits(self, backbone: Backbone) -> bool:
        size = self.recipe.model.image_size
        return size is None or size % backbone.patch_size == 0

    def _downloads(self) -> tuple[list[Backbone], list[Backbone]]:
        """Return the first backbone on the hub, and the first in a package for machines without a hub."""
        fitting = [backbone for backbone in BACKBONES.values() if self._fits(backbone)]
        on_hub = [backbone for backbone in fitting if isinstance(backbone.where, str)]
        return on_hub[:1], [backbone for backbone in fitting if isinstance(backbone.where, Wheel)][:1]

    def _patience(self) -> Patience:
        run, total = self.recipe.run, float("inf")
        if run.epochs is None:
            total = max(0.0, (run.minutes * 60 - self.ctx.clock.elapsed) * MAX_BUDGET_SHARE)
        return Patience(answer=ANSWER_SECONDS, begin=BEGIN_SECONDS, stall=STALL_SECONDS, total=total)

    def _load(self, backbone: Backbone, path: Path) -> PretrainedModel | None:
        """Return a backbone's weights; None if they cannot be read, do not fit, or would take too long."""
        dataset, device = self.ctx.dataset, self.ctx.device
        try:
            found = load_backbone(backbone, path)
            resolved = resolve_pretrained(self.recipe, self.overrides, found, dataset, device)
            config = make_model_config(resolved, dataset, found)
            adapt_preprocessing(config, found, keep_aspect=resolved.data.keep_aspect)
            check_resources(resolved, dataset, device, found)
        except (BundleError, ConfigError) as error:
            self.ctx.reporter.say(f"{backbone.name} in {path} cannot be used: {error}")
            return None
        as_asked = replace(resolved, model=replace(resolved.model, image_size=self.recipe.model.image_size))
        self._too_slow = find_lack_of_time(self.ctx, as_asked, found)
        if self._too_slow is not None:
            return None
        self.ctx.reporter.say(
            f"starting from {backbone.name} in {path}: weights of {backbone.source}, license {backbone.license}; "
            "--from scratch trains without them"
        )
        return found
