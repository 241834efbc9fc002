"""Train and use models on an emulated GPU and on the CPU, and print the results of both as JSON."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import megavit
from megavit.config.recipe import Recipe
from megavit.config.target import Target
from megavit.exporting.metadata import export_info
from megavit.exporting.module import ExportModule, output_names, run_eagerly
from megavit.exporting.parity import compare
from megavit.exporting.parity_images import ParityImage
from megavit.model.vit import MegaVit
from megavit.predict.predictor import Predictor
from megavit.runtime.seeds import seed_all
from megavit.training.budget.measure import measure_step
from megavit.training.loop import step
from megavit.training.optim.loss import BinaryCrossEntropy, SmoothL1
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task
from tests.helpers.digits import make_digits_folder
from tests.helpers.emulated_gpu import DEVICE, EmulatedGpu, count_pinned, count_synchronizations
from tests.helpers.training import BATCH, CLASSES, make_dataset, make_model_config, make_task

STEPS = 2
METHODS = ("relevance", "rollout", "integrated_gradients")


def make_tasks() -> dict[str, Task]:
    """The tasks of a step, by name: each kind of target, input, optimizer and norm."""
    gray = make_task()

    def changed(**tables: dict[str, Any]) -> Recipe:
        recipe = gray.recipe
        return replace(recipe, **{name: replace(getattr(recipe, name), **table) for name, table in tables.items()})

    color = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.2), "channels": 3}
    aspect = {"keep_aspect": True, "patch_size": 2}
    unmixed = changed(augment={"mixup": 0.0, "cutmix": 0.0})
    labels, score = Target(kind="multilabel", thresholds=[0.5] * CLASSES), Target(kind="regression", median=1.0)
    return {
        "gray": gray,
        "color": replace(
            gray, recipe=changed(model={"channels": 3}), preprocessing=replace(gray.preprocessing, **color)
        ),
        "sizes": replace(gray, recipe=unmixed, preprocessing=replace(gray.preprocessing, **aspect)),
        "small first": replace(gray, recipe=changed(schedule={"early": 1.0, "patch_drop": 0.5})),
        "parts": replace(gray, recipe=changed(run={"gradient_accumulation": 2})),
        "AdamW": replace(gray, recipe=changed(optimizer={"kind": "adamw"})),
        "batch norms": replace(gray, recipe=changed(model={"stem": "conv", "norm": "batch"})),
        "labels": replace(gray, target=labels, loss=BinaryCrossEntropy()),
        "score": replace(gray, target=score, num_classes=1, loss=SmoothL1(score.mean, score.std)),
        "bfloat16": replace(gray, recipe=changed(run={"precision": "bfloat16"})),
    }


def make_batch(task: Task, number: int) -> Batch:
    random = torch.Generator().manual_seed(number)
    shape = (BATCH, task.preprocessing.channels, 4, 4)
    images: Any = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
    if task.preprocessing.keep_aspect:
        images = [images[0][:, :2], *images[1:-1], images[-1].repeat(1, 1, 2)[:, :2]]
    labels = torch.randint(0, CLASSES, (BATCH,), generator=random)
    match task.target.kind:
        case "multilabel":
            labels = torch.nn.functional.one_hot(labels, CLASSES).bool()
        case "regression":
            labels = labels.float()
    return images, labels


def make_state(task: Task, device: str) -> TrainState:
    seed_all(0)
    config = replace(make_model_config(task.recipe, make_dataset()), num_classes=task.num_classes)
    return TrainState.create(MegaVit.from_config(config).to(device), task.recipe.optimizer)


def take_steps(task: Task, device: str, gpu: EmulatedGpu) -> dict[str, Any]:
    """Return the losses of a few steps, the weights' average after them, and the waits of the last step."""
    state, losses = make_state(task, device), []
    for number in range(STEPS):
        gpu.pop_waits()
        losses.append(step.train_step(state, task, make_batch(task, number), rate=1.0, steps=STEPS))
    waits = [list(wait) for wait in gpu.pop_waits()]
    average = torch.cat([weight.detach().cpu().flatten() for weight in state.ema_model.parameters()]).tolist()
    return {"losses": losses, "average": average, "waits": waits}


@contextmanager
def hidden_wait() -> Iterator[None]:
    """A loss that is read for each micro-batch."""
    real = step.backward

    def backward(*arguments: Any) -> Any:
        losses = real(*arguments)
        losses[0].item()
        return losses

    with mock.patch.object(step, "backward", backward):
        yield


@contextmanager
def host_copy() -> Iterator[None]:
    """A moving average that is computed on the CPU."""
    real = TrainState.update_ema

    def update_ema(self: TrainState, length: float) -> None:
        next(self.ema_model.parameters()).data.copy_(next(self.model.parameters()).detach().cpu())
        real(self, length)

    with mock.patch.object(TrainState, "update_ema", update_ema):
        yield


@contextmanager
def wrong_device() -> Iterator[None]:
    """Targets that stay on the CPU."""
    real = Task.soft_targets
    with mock.patch.object(Task, "soft_targets", lambda self, labels: real(self, labels.cpu())):
        yield


def try_fault(fault: Callable[[], Any], gpu: EmulatedGpu) -> Any:
    """Return the waits of the last step with a fault, or the error that it ends with."""
    with fault():
        try:
            return take_steps(make_tasks()["gray"], DEVICE, gpu)["waits"]
        except RuntimeError as error:
            return str(error)


def use(predictor: Predictor, images: list[Path]) -> dict[str, Any]:
    """Return what a predictor says about images, in each way."""
    return {
        "predict": [[list(one) for one in answer.top] for answer in predictor.predict(images)],
        "embed": predictor.embed(images).tolist(),
        "explain": [megavit.explain_image(predictor, images[0], method=method).map.tolist() for method in METHODS],
    }


def compare_export(predictor: Predictor, images: list[Path]) -> list[float]:
    """Return the largest errors of outputs and features of the module that is exported, on the CPU, for images."""
    run = run_eagerly(ExportModule(predictor), output_names(predictor))
    shown = [ParityImage(path.name, predictor.prepare(path).permute(1, 2, 0).numpy()) for path in images]
    parity = compare(predictor, run, export_info(predictor, "pixels", "float32"), shown, batch_sizes=(1, 2))
    return [parity.output_error, parity.feature_error]


def train(data: Path, out: Path, device: str) -> list[dict[str, Any]]:
    """Train for an epoch, and return what was measured at each validation."""
    settings = {"run": {"precision": "float32"}}
    megavit.train(
        data,
        out=out,
        from_="scratch",
        model="pico",
        epochs=1,
        batch_size=8,
        device=device,
        settings=settings,
        report=False,
    )
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "validation"]


def main(scratch: Path) -> dict[str, Any]:
    """Return the results of both devices."""
    answer: dict[str, Any] = {"steps": {}, "faults": {}, "runs": {}, "uses": {}, "waits": {}}
    data = make_digits_folder(scratch / "digits", range(3), slice(12))
    images = sorted(data.rglob("*.png"))[::9]
    with EmulatedGpu() as gpu:
        for name, task in make_tasks().items():
            answer["steps"][name] = {device: take_steps(task, device, gpu) for device in ("cpu", DEVICE)}
        for fault in (hidden_wait, host_copy, wrong_device):
            answer["faults"][fault.__name__] = try_fault(fault, gpu)
        before, task = count_synchronizations(), make_tasks()["gray"]
        measure_step(make_state(task, DEVICE), task, make_batch(task, 0))
        answer["synchronizations"] = count_synchronizations() - before
        for kind, device in (("cpu", "cpu"), ("gpu", "auto")):
            gpu.pop_waits()
            answer["runs"][kind] = train(data, scratch / kind, device)
            answer["waits"]["train"] = Counter(wait.asked_by for wait in gpu.pop_waits())
        for kind, device in (("cpu", "cpu"), ("gpu", "auto")):
            predictor = megavit.load(scratch / "gpu", device=device)
            gpu.pop_waits()
            answer["uses"][kind] = use(predictor, images)
            answer["waits"]["use"] = Counter(wait.asked_by for wait in gpu.pop_waits())
        answer["device"] = str(next(predictor.model.parameters()).device)
        answer["pinned"] = count_pinned()
        answer["export"] = compare_export(predictor, images)
    return answer


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
