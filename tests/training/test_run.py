import shutil

from PIL import Image

from megavit.config.recipe import DataRecipe
from megavit.runtime.process_group import DistContext
from megavit.training.setup.source import read_dataset, report_warnings
from tests.helpers.labeled_images import make_scene
from tests.training.test_cross_val_predict import Counting


def test_leaks_are_told_before_training_begins(tmp_path):
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for seed in range(10):
                pixels = (
                    make_scene(len(split) * 1000 + len(list(tmp_path.rglob("*"))), side=16).permute(1, 2, 0).numpy()
                )
                Image.fromarray(pixels).save(folder / f"{seed}.png")
    watch = Counting()
    report_warnings(read_dataset(str(tmp_path), DataRecipe(), watch), DistContext(), watch)
    assert watch.said == []
    shutil.copy(tmp_path / "train" / "cat" / "3.png", tmp_path / "test" / "dog" / "again.png")
    images = read_dataset(str(tmp_path), DataRecipe(), watch)
    report_warnings(images, DistContext(rank=1, world_size=2), watch)
    assert watch.said == []  # one process tells, and only that one looks
    report_warnings(images, DistContext(), watch)
    first, second = watch.said
    assert first.startswith("one image in two splits: the same file in train and test, once")
    assert second.startswith("one image with different labels: the same file with the labels cat, dog, once")
