"""Upload a trained model to the Hugging Face hub."""

import os
from pathlib import Path

from megavit.weights.bundle.push import push_bundle


def push(bundle: str | os.PathLike[str], target: str, *, private: bool = False) -> str:
    """Upload a bundle with its model card to the Hugging Face hub, and return the address of its page.

    `target` can then be used wherever a bundle is expected, as in `megavit.load("hf-hub:ada/flowers")`, and its model
    alone by `MegaVit.from_pretrained("ada/flowers")`.

    Args:
        bundle: folder of a training run or of a bundle.
        target: hf-hub:USER/NAME, which is created if it is new; files of the same names there are replaced.
        private: whether a new model is visible to its owner only.

    Raises:
        BundleError: if the bundle is missing or damaged.
        ConfigError: if `target` is not a model name.
        OutputError: if you are not logged in or may not write there, or if the hub cannot be reached.
    """
    return push_bundle(Path(bundle), target, private=private)
