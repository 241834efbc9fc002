"""Checkpoints as training scripts leave them: can they be read, and are the answers the peer's?

    python -m benchmarks.conversion.checkpoints [--out benchmarks/results/conversion/checkpoints]

Each case builds small models of timm, torchvision or transformers with random weights, saves them as such a script
does, with everything that it puts beside the weights, and compares the answers of what megavit reads with its own.
"""

import argparse
import collections
import datetime
import pathlib
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from benchmarks.conversion.compare import Row, compare_file, perturb_weights, write_report

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
ARGS = argparse.Namespace(lr=1e-3, output_dir=pathlib.Path("out"), model="vit_tiny_patch16_224", seed=np.int64(3))
Forward = Callable[[Tensor], Tensor]
Case = Callable[[Path], tuple[Path, Forward]]


class Config(dict[str, Any]):
    """Options as yacs, EasyDict and Lightning keep them: a dictionary with attributes."""


def vit(seed: int = 0, classes: int = 5, **changes: Any) -> Any:
    """timm's small plain model."""
    return perturb_weights(timm.create_model("vit_tiny_patch16_224", num_classes=classes, **SIZES | changes), seed)


def torchvision_vit(seed: int = 0) -> Any:
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 1, "hidden_dim": 64, "mlp_dim": 96}
    return perturb_weights(VisionTransformer(**sizes, num_classes=5), seed)


def optimizer_state(model: nn.Module) -> dict[str, Any]:
    """The state of AdamW after a step."""
    adam = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adam.step()
    adam.zero_grad()
    return adam.state_dict()


def add_prefix(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def deit(folder: Path) -> tuple[Path, Forward]:
    model, average = vit(0), vit(1)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer_state(model),
        "lr_scheduler": {"_step_count": 3, "base_lrs": [0.1]},
        "epoch": 299,
        "model_ema": average.state_dict(),
        "scaler": {"scale": 65536.0},
        "args": ARGS,
    }
    return save(content, folder / "checkpoint.pth"), average


def mae_pretraining(folder: Path) -> tuple[Path, Forward]:
    model = vit(classes=0)
    decoder = {
        "mask_token": torch.zeros(1, 1, 32),
        "decoder_pos_embed": torch.zeros(1, 17, 32),
        "decoder_embed.weight": torch.zeros(32, 64),
        "decoder_embed.bias": torch.zeros(32),
        "decoder_blocks.0.norm1.weight": torch.zeros(32),
        "decoder_blocks.0.attn.qkv.weight": torch.zeros(96, 32),
        "decoder_norm.weight": torch.zeros(32),
        "decoder_pred.weight": torch.zeros(192, 32),
    }
    content = {"model": model.state_dict() | decoder, "optimizer": optimizer_state(model), "epoch": 800, "args": ARGS}
    return save(content, folder / "mae_pretrain_full.pth"), model


def mae_finetuned(folder: Path) -> tuple[Path, Forward]:
    """Without pooling by the mean, of which see the sweep of timm's models."""
    model = vit()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer_state(model),
        "epoch": 50,
        "scaler": {},
        "args": ARGS,
    }
    return save(content, folder / "checkpoint-50.pth"), model


def dino(folder: Path) -> tuple[Path, Forward]:
    student, teacher = vit(0, classes=0), vit(1, classes=0)
    head = {"head.mlp.0.weight": torch.zeros(128, 64), "head.last_layer.weight_v": torch.zeros(256, 128)}
    content = {
        "student": add_prefix(student, "module.backbone.") | {f"module.{name}": t for name, t in head.items()},
        "teacher": add_prefix(teacher, "backbone.") | head,
        "optimizer": optimizer_state(student),
        "epoch": 100,
        "args": ARGS,
        "dino_loss": {"center": torch.zeros(1, 256)},
    }
    return save(content, folder / "checkpoint.pth"), teacher


def dinov2_teacher(folder: Path) -> tuple[Path, Forward]:
    model: Any = perturb_weights(
        timm.create_model("vit_small_patch14_dinov2", num_classes=0, **SIZES | {"init_values": 1.0}), 0
    )
    tensors = model.state_dict() | {"mask_token": torch.zeros(1, 64)}
    head = {"dino_head.mlp.0.weight": torch.zeros(128, 64)}
    content = {"teacher": {f"backbone.{name}": tensor for name, tensor in tensors.items()} | head}
    return save(content, folder / "teacher_checkpoint.pth"), model


def timm_training(folder: Path) -> tuple[Path, Forward]:
    model, average = vit(0), vit(1)
    content = {
        "epoch": 3,
        "arch": "vit_tiny_patch16_224",
        "state_dict": model.state_dict(),
        "optimizer": optimizer_state(model),
        "version": 2,
        "args": ARGS,
        "amp_scaler": {"scale": 1.0},
        "state_dict_ema": average.state_dict(),
        "metric": np.float64(83.2),
    }
    return save(content, folder / "model_best.pth.tar"), average


def lightning(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    content = {
        "epoch": 9,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": add_prefix(model, "model.") | {"criterion.weight": torch.ones(5)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [optimizer_state(model)],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": Config(lr=0.1, data=pathlib.Path("data"), created=datetime.datetime(2026, 1, 1)),
    }
    return save(content, folder / "epoch=9.ckpt"), model


def torchvision_references(folder: Path) -> tuple[Path, Forward]:
    model, average = torchvision_vit(0), torchvision_vit(1)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer_state(model),
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": ARGS,
        "model_ema": {"n_averaged": torch.tensor(3), **add_prefix(average, "module.")},
    }
    return save(content, folder / "model_3.pth"), average


def trainer(folder: Path) -> tuple[Path, Forward]:
    """transformers' Trainer: a folder, with the state of the training beside."""
    sizes: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_labels": 5}
    config = transformers.ViTConfig(**sizes, intermediate_size=96, image_size=32, patch_size=8)
    model: Any = perturb_weights(transformers.ViTForImageClassification(config))
    model.save_pretrained(folder)
    save(optimizer_state(model), folder / "optimizer.pt")
    save(ARGS, folder / "training_args.bin")
    return folder, lambda images: model(images).logits


def data_parallel(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    return save({"net": nn.DataParallel(model).state_dict(), "acc": 91.2, "epoch": 7}, folder / "ckpt.pth"), model


def compiled(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    optimized: Any = torch.compile(model)
    return save(optimized.state_dict(), folder / "compiled.pt"), model


def averaged(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    return save(torch.optim.swa_utils.AveragedModel(model).state_dict(), folder / "ema.pt"), model


def fully_sharded(folder: Path) -> tuple[Path, Forward]:
    """A full state dict of FSDP's, with the names of layers that were wrapped and checkpointed."""
    model = vit()
    renamed = {
        "_fsdp_wrapped_module." + name.replace("blocks.", "blocks._checkpoint_wrapped_module."): tensor
        for name, tensor in model.state_dict().items()
    }
    return save({"model_state": renamed}, folder / "pytorch_model_fsdp.bin"), model


def accelerate(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    save_file(
        {f"module.{name}": t.contiguous() for name, t in model.state_dict().items()}, folder / "model.safetensors"
    )
    return folder / "model.safetensors", model


def fastai(folder: Path) -> tuple[Path, Forward]:
    """A body, and a head put on it, in a Sequential; saved with the optimizer."""
    body, head = vit(classes=0), perturb_weights(nn.Linear(64, 5))
    model = nn.Sequential(collections.OrderedDict(vit=body, fc=head))
    return save({"model": model.state_dict(), "opt": optimizer_state(model)}, folder / "stage-1.pth"), model


def open_mmlab(folder: Path) -> tuple[Path, Forward]:
    body, head = vit(classes=0), perturb_weights(nn.Linear(64, 5))
    tensors = add_prefix(body, "backbone.") | add_prefix(head, "head.fc.")
    content = {
        "meta": {"config": Config(model=Config(type="Classifier")), "time": datetime.datetime(2026, 1, 1), "env": {}},
        "state_dict": collections.OrderedDict(tensors),
        "message_hub": collections.defaultdict(list, {"loss": [np.float32(1)]}),
    }
    return save(content, folder / "epoch_100.pth"), nn.Sequential(body, head)


def dropout_before_the_head(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    model.head = nn.Sequential(nn.Dropout(0.5), perturb_weights(nn.Linear(64, 3)))
    return save(model.eval().state_dict(), folder / "finetuned.pth"), model


def torchvision_heads_replaced(folder: Path) -> tuple[Path, Forward]:
    model = torchvision_vit()
    model.heads = nn.Sequential(nn.Dropout(0.5), perturb_weights(nn.Linear(64, 3)))
    return save({"params": model.eval().state_dict()}, folder / "finetuned.pth"), model


def torchvision_heads_as_a_layer(folder: Path) -> tuple[Path, Forward]:
    model = torchvision_vit()
    model.heads = perturb_weights(nn.Linear(64, 3))
    return save({"network": model.state_dict()}, folder / "finetuned.pth"), model


def custom_class(folder: Path) -> tuple[Path, Forward]:
    model, head = vit(classes=0), perturb_weights(nn.Linear(64, 3))
    tensors = add_prefix(model, "base_model.model.") | add_prefix(head, "classifier.1.")
    return save({"weights": tensors, "labels": ["a", "b", "c"]}, folder / "best.pt"), nn.Sequential(model, head)


def pickled_model(folder: Path) -> tuple[Path, Forward]:
    model = vit()
    return save(model, folder / "model.pth"), model


def nested_dictionaries(folder: Path) -> tuple[Path, Forward]:
    """The first wrapper of a usual name holds no weights; the average has one of its own."""
    model, average = vit(0), vit(1)
    content = {
        "model": {"name": "vit"},
        "state": {"step": 3, "nets": {"vit": deepcopy(model).state_dict()}},
        "ema_state_dict": {"decay": 0.999, "shadow": average.state_dict()},
    }
    return save(content, folder / "last.pt"), average


CASES: dict[str, Case] = {
    "DeiT": deit,
    "MAE, pre-training": mae_pretraining,
    "MAE, fine-tuned": mae_finetuned,
    "DINO": dino,
    "DINOv2 teacher": dinov2_teacher,
    "timm's train.py": timm_training,
    "Lightning": lightning,
    "torchvision's references": torchvision_references,
    "transformers' Trainer": trainer,
    "DataParallel": data_parallel,
    "torch.compile": compiled,
    "AveragedModel": averaged,
    "FSDP": fully_sharded,
    "Accelerate": accelerate,
    "fastai": fastai,
    "OpenMMLab": open_mmlab,
    "dropout before the head": dropout_before_the_head,
    "torchvision, heads replaced": torchvision_heads_replaced,
    "torchvision, heads as a layer": torchvision_heads_as_a_layer,
    "a class of one's own": custom_class,
    "saved whole": pickled_model,
    "deep in tables": nested_dictionaries,
}


def check_case(name: str, folder: Path) -> Row:
    path, forward = CASES[name](folder)
    return compare_file(name, path, forward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="path of the results, without .json and .md")
    out = parser.parse_args().out
    rows = []
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(check_case(name, Path(folder)))
    write_report(rows, out, "Checkpoints as training scripts leave them")


if __name__ == "__main__":
    main()
