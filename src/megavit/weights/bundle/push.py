"""Upload a bundle to the Hugging Face hub."""

from pathlib import Path

from megavit.model.hub import CONFIG, render_config
from megavit.runtime.hub import upload
from megavit.weights.bundle.bundle import INFO, load_bundle


def push_bundle(folder: Path, target: str, *, private: bool = False) -> str:
    """Upload the bundle in `folder`, or in `folder/bundle`, with its model card, and return the address of its page.

    It can then be used as `target` wherever a bundle is expected, and its model by `MegaVit.from_pretrained`.

    Args:
        target: hf-hub:USER/NAME; files of the same names there are replaced.
        private: whether a new model is visible to its owner only.

    Raises:
        BundleError: if the bundle is missing or damaged.
        ConfigError, OutputError: as in `megavit.runtime.hub.upload`.
    """
    bundle = load_bundle(folder)
    files = {name: bundle.folder / name for name in (*bundle.info.files, INFO)}
    # The hub counts downloads by the config.
    config = {CONFIG: render_config(bundle.info.model)}
    return upload(files | config, target, private=private, message="Upload a bundle of megavit")
