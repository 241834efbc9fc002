"""Download models from the Hugging Face hub with huggingface_hub, which caches them, and upload them."""

from collections.abc import Mapping
from pathlib import Path

from megavit.errors import BundleError, ConfigError, OutputError

HUB, TIMM = "hf-hub:", "timm:"
# No code is downloaded; other weight formats only if there is no safetensors file.
PREFERRED = ("*.safetensors", "*.json", "*.md", "*.csv", "*.html")
FALLBACK = ("*.bin", "*.npz", "*.pt", "*.pth")


def is_hub_name(source: str) -> bool:
    """Return whether `source` names a model on the hub: hf-hub:USER/NAME or timm:NAME."""
    return source.startswith((HUB, TIMM))


def hub_page(source: str) -> str:
    """Return USER/NAME of a name on the hub, with its @REVISION if there is one."""
    return f"timm/{source.removeprefix(TIMM)}" if source.startswith(TIMM) else source.removeprefix(HUB)


def hub_cache(source: str) -> Path:
    """Return the folder in the cache of huggingface_hub for a model of any revision, which need not exist."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = hub_page(source).partition("@")[0]
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def is_offline() -> bool:
    """Return whether the user has forbidden downloads, by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def find_cached(source: str) -> Path | None:
    """Return the folder of a model in the cache of huggingface_hub; None unless its config and weights are complete."""
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache(hub_page(source), name) for name in ("config.json", "model.safetensors")]
    # Another result is a note that the hub has no such file.
    paths = [Path(file) for file in files if isinstance(file, str)]
    return paths[0].parent if len(paths) == len(files) and all(path.is_file() for path in paths) else None


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
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = hub_page(source).partition("@")
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
    except HfHubHTTPError as error:
        raise BundleError(f"{name} cannot be downloaded from the hub: {error}") from None
    except (HTTPError, OSError) as error:
        raise BundleError(f"the download of {name} from the hub broke off: try again ({error})") from None
    return folder


def upload(files: Mapping[str, Path | bytes], target: str, *, private: bool = False, message: str) -> str:
    """Upload files as a model on the hub, creating it if it is new, and return the address of its page.

    Args:
        files: paths or contents by name.
        target: hf-hub:USER/NAME.
        private: whether a new model is visible to its owner only; an existing one stays as it is.
        message: message of the commit, which replaces files of the same names.

    Raises:
        ConfigError: if `target` is not a model name.
        OutputError: if the user is not logged in or may not write there, or if the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
    from huggingface_hub.utils import validate_repo_id

    name = target.removeprefix(HUB)
    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if not target.startswith(HUB) or name.count("/") != 1:
        raise ConfigError(f"{target!r} is not a model name: use {HUB}USER/NAME, such as {HUB}ada/flowers")
    if get_token() is None:
        raise OutputError(
            "the hub needs to know who uploads: log in with hf auth login, or set HF_TOKEN to a token that may write"
        )
    api = HfApi()
    try:
        address = api.create_repo(name, private=private or None, exist_ok=True)
        added = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
        api.create_commit(name, added, commit_message=message)
    except HfHubHTTPError as error:
        raise OutputError(f"{name} cannot be uploaded: {_explain_refusal(error.response.status_code, error)}") from None
    except (HTTPError, OSError, RuntimeError) as error:  # a RuntimeError is about one file
        raise OutputError(
            f"{name} cannot be uploaded, as the hub cannot be reached: try again with a network connection ({error})"
        ) from None
    return str(address)


def _explain_refusal(status: int, error: Exception) -> str:
    match status:
        case 401:
            return "the hub does not accept the token: log in again with hf auth login, or set HF_TOKEN to a valid one"
        case 403:
            return (
                "the token may not write there: use one with the role write, of that user or of a member of that "
                "organization"
            )
        case _:
            return f"the hub answered {status}: {str(error).splitlines()[0]}"
