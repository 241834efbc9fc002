"""The command `megavit push`."""

from pathlib import Path

from megavit.cli.options import Json


def push(
    run: Path,
    destination: str,
    /,
    *,
    private: bool = False,
    json: Json = False,
) -> None:
    """Upload a run's bundle, with its model card, to the Hugging Face hub.

    The name on the hub is created if it is new. Log in before, with
    hf auth login or the environment variable HF_TOKEN. Anyone who may see the
    model can then use it by this name: megavit predict hf-hub:USER/NAME ...

    The bundle names the images that it was trained on (samples.csv), and has
    a few of them as references for its self-test: see that you may publish
    them, or pass --private.

    Args:
        run: Folder of a training run, or of a bundle.
        destination: Name on the hub: hf-hub:USER/NAME.
        private: Make a new model visible to its owner only.
    """
    from megavit.api.push import push as upload
    from megavit.cli.console import print_json, results

    address = upload(run, destination, private=private)
    if json:
        print_json({"url": address})
    else:
        results.print(f"uploaded: {address}")
