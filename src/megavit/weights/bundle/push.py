"""Upload a bundle to the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory

from megavit.model.hub import CONFIG, write_config
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
    names = [*bundle.info.files, INFO]
    with TemporaryDirectory(prefix="megavit-") as temporary:
        new = Path(temporary)
        for name in names:
            (new / name).symlink_to((bundle.folder / name).absolute())
        # The hub counts downloads by this file.
        write_config(new / CONFIG, bundle.model.config)
        return upload(new, [*names, CONFIG], target, private=private, message="Upload a bundle of megavit")
