"""Random crops of pictures and what a teacher sees in them, in files that a stopped run does not compute again."""

import math
import random
import sys
import time
from pathlib import Path

import torch
from PIL import Image, ImageEnhance, ImageOps
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.model.vit import MegaVit
from megavit.training.backbone_engine import make_backbone_engine
from megavit.weights.pretrained.pretrained import PretrainedModel

# Crops in a file, pixels of a crop's side, and cells of a side in which a model's patches are averaged.
CROPS, SIDE, CELLS = 512, 112, 4
# Crops that are computed at once.
BATCH = 64
# Longest side of a picture in memory, and smallest area of a crop as a share of it; and those of a folder's pictures if
# it has few.
MAX_SIDE, MIN_AREA = 384, 0.1
LARGE_SIDE, LARGE_MIN_AREA, FEW = 1536, 0.01, 100
# Smallest side of a crop in the picture, in pixels.
MIN_CROP = 16
# Shares of the crops that are made coarse, as small pictures are that were enlarged, and that are recolored.
COARSE, RECOLORED = 0.3, 0.4
COARSE_SIDES = (28, 72)


def read_picture(path: Path, side: int) -> Image.Image:
    """Return a picture in RGB, on white where it is transparent, with at most `side` pixels a side."""
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        image = ImageOps.exif_transpose(image).convert("RGBA")
    picture = Image.new("RGBA", image.size, "white")
    picture.alpha_composite(image)
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    return picture


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder that Pillow opens; of clip art, some would be too many pixels."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            with Image.open(path):
                found.append(path)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            sys.stdout.write(f"{path.name} is left out: it is too large\n")
    return found


def draw_crop(picture: Image.Image, min_area: float, chance: random.Random) -> Tensor:
    """Return a random crop, uint8 (3, SIDE, SIDE): flipped, made coarse and recolored by chance."""
    width, height = picture.size
    area = width * height * math.exp(chance.uniform(math.log(min_area), 0.0))
    ratio = math.exp(chance.uniform(-math.log(4 / 3), math.log(4 / 3)))
    w = max(min(width, round(math.sqrt(area * ratio))), min(width, MIN_CROP))
    h = max(min(height, round(math.sqrt(area / ratio))), min(height, MIN_CROP))
    left, top = chance.uniform(0, width - w), chance.uniform(0, height - h)
    side = chance.randint(*COARSE_SIDES) if chance.random() < COARSE else SIDE
    crop = picture.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + w, top + h), reducing_gap=3.0)
    crop = crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if chance.random() < 0.5:
        crop = ImageOps.mirror(crop)
    if chance.random() < RECOLORED:
        crop = ImageEnhance.Brightness(crop).enhance(chance.uniform(0.6, 1.4))
        crop = ImageEnhance.Contrast(crop).enhance(chance.uniform(0.6, 1.4))
        crop = ImageEnhance.Color(crop).enhance(chance.uniform(0.0, 1.8))
    return pil_to_tensor(crop)


def describe(model: MegaVit, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return the class token, without one the pooled vector, and the mean patch of each cell, (B, 1 + CELLS², D)."""
    x, side = normalize(images, preprocessing), model.config.image_hw[0]
    if side != x.shape[-1]:
        x = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
    with torch.autocast("cpu", torch.bfloat16):
        seen = model.features(x)
    grid = seen.patches.float().transpose(1, 2).unflatten(2, seen.grid)
    cells = F.adaptive_avg_pool2d(grid, CELLS).flatten(2).transpose(1, 2)
    whole = seen.prefix[:, :1] if model.config.pool.startswith("cls") else seen.pooled[:, None]
    return torch.cat([whole.float(), cells], dim=1)


@torch.no_grad()
def compute_targets(folders: list[Path], out: Path, teacher: PretrainedModel, count: int) -> None:
    """Write `count` files of crops, as many of each of the folders, and of what the teacher sees; those there stay.

    `images` (CROPS, 3, SIDE, SIDE) are uint8, `targets` (CROPS, 1 + CELLS², D) bfloat16, as `describe` returns them.
    """
    engine = make_backbone_engine(teacher, torch.device("cpu"))
    paths = [list_pictures(folder) for folder in folders]
    pictures: dict[Path, Image.Image] = {}
    out.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        file = out / f"{index:04}.safetensors"
        if file.exists():
            continue
        began, chance, crops = time.process_time(), random.Random(index), []
        for number in range(CROPS):
            candidates = paths[number % len(paths)]
            path, is_large = chance.choice(candidates), len(candidates) < FEW
            if path not in pictures:
                pictures[path] = read_picture(path, LARGE_SIDE if is_large else MAX_SIDE)
            crops.append(draw_crop(pictures[path], LARGE_MIN_AREA if is_large else MIN_AREA, chance))
        images = torch.stack(crops)
        targets = [describe(engine.model, part, engine.preprocessing).bfloat16() for part in images.split(BATCH)]
        save_file({"images": images, "targets": torch.cat(targets)}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
        sys.stdout.write(f"{file.name}: {time.process_time() - began:.1f} processor seconds\n")
        sys.stdout.flush()
