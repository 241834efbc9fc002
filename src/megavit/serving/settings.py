"""Settings of the server and its workers, and options of a request."""

from dataclasses import dataclass
from typing import Literal, get_args

from megavit.config.checks import check_choice, check_device, check_positive, check_range

Precision = Literal["float32", "bfloat16", "int8"]

MAX_IMAGES = 256
"""Maximum number of images per request."""
DEFAULT_TOP, MAX_TOP = 5, 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server.

    Attributes:
        host, port: address to listen on; port 0 picks a free one.
        max_batch_size: maximum number of images per batch.
        queue_size: maximum number of images waiting or in progress, per model.
        max_request_mib: maximum size of a request's body in MiB.
        max_megapixels: maximum size of an image in millions of pixels.
        read_timeout: seconds within which a request must have arrived completely.
        timeout: seconds within which an accepted request is answered or refused.
        keep_alive: seconds until an idle connection is closed; set it longer than that of a reverse proxy.
        load_timeout: seconds within which a worker must have loaded its model.
        device, precision, keep_aspect: as in `megavit.load`.
        api_key: key that requests must carry; None: none.
        worker_module: module that is run as the worker process of each model.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch_size: int = 32
    queue_size: int = 128
    max_request_mib: float = 32
    max_megapixels: float = 50
    read_timeout: float = 10
    timeout: float = 30
    keep_alive: float = 75
    load_timeout: float = 300
    device: str = "auto"
    precision: Precision = "float32"
    keep_aspect: bool = False
    api_key: str | None = None
    worker_module: str = "megavit.serving.workers.worker"

    def __post_init__(self) -> None:
        check_range("port", self.port, 0, 65_535)
        check_range("max-batch-size", self.max_batch_size, 1, 4096)
        check_range("queue-size", self.queue_size, 1, 100_000)
        check_range("max-request-mib", self.max_request_mib, 2**-20, 1024)
        check_range("max-megapixels", self.max_megapixels, 1e-6, 1e6)
        for name in ("read_timeout", "timeout", "keep_alive", "load_timeout"):
            check_positive(name.replace("_", "-"), getattr(self, name))
        check_device("device", self.device)
        check_choice("precision", self.precision, get_args(Precision))

    @property
    def max_request_bytes(self) -> int:
        """Maximum number of bytes of a request's body."""
        return round(self.max_request_mib * 2**20)

    @property
    def max_pixels(self) -> int:
        """Maximum number of pixels of an image."""
        return round(self.max_megapixels * 10**6)

    @property
    def max_images(self) -> int:
        """Maximum number of images per request, at most what the queue can hold."""
        return min(MAX_IMAGES, self.queue_size)

    @property
    def max_total_bytes(self) -> int:
        """Maximum number of bytes of all bodies that are being read or processed."""
        return 8 * self.max_request_bytes


@dataclass(frozen=True)
class PredictOptions:
    """The options of a prediction: the query of `POST /predict`."""

    top: int = DEFAULT_TOP
    coverage: float | None = None
    embedding: bool = False
    explanation: bool = False


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker process, see also `Settings`.

    Attributes:
        source: folder of a bundle or a run, or hf-hub:USER/NAME.
        max_batch_seconds: maximum estimated seconds to compute a batch.
    """

    source: str
    device: str
    precision: str
    keep_aspect: bool
    max_batch_size: int
    max_pixels: int
    max_batch_seconds: float
