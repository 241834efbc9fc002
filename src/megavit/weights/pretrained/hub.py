"""Download models from the Hugging Face hub with huggingface_hub, which caches them for offline use."""

from pathlib import Path

from megavit.errors import BundleError

HUB, TIMM = "hf-hub:", "timm:"
# No code is downloaded; other weight formats only if there is no safetensors file.
PREFERRED = ("*.safetensors", "*.json", "*.md", "*.csv", "*.html")
FALLBACK = ("*.bin", "*.npz", "*.pt", "*.pth")


def is_hub_name(source: str) -> bool:
    """Return whether `source` names a model on the hub: hf-hub:USER/NAME or timm:NAME."""
    return source.startswith((HUB, TIMM))


def download(source: str) -> Path:
    """Download a model from the hub unless it is cached, and return its local folder.

    The source is hf-hub:USER/NAME, optionally with @REVISION, or timm:NAME for hf-hub:timm/NAME.

    Raises:
        BundleError: if the model does not exist, is not accessible, or is neither cached nor reachable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = source.removeprefix(HUB).partition("@")
    if source.startswith(TIMM):
        name = f"timm/{name.removeprefix(TIMM)}"
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(PREFERRED)))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=list(PREFERRED + FALLBACK)))
    except GatedRepoError:
        raise BundleError(f"{name} is gated: accept its terms on the hub, then log in with hf auth login") from None
    except RepositoryNotFoundError:
        tag = "; names of timm models there end in a tag, such as .augreg_in21k" if source.startswith(TIMM) else ""
        raise BundleError(f"there is no model {name} on the hub, or it is private{tag}") from None
    except RevisionNotFoundError:
        raise BundleError(f"the model {name} has no revision {revision!r}") from None
    except HFValidationError:
        raise BundleError(f"{source!r} is not a model name: use {HUB}USER/NAME or {TIMM}NAME") from None
    except LocalEntryNotFoundError:
        raise BundleError(
            f"{name} is not in the cache of huggingface_hub, and the hub cannot be reached: try again with a "
            "network connection, or pass the folder of a copy"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise BundleError(f"{name} cannot be downloaded from the hub: {error}") from None
    return folder
