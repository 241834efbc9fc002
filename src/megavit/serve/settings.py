"""What a server can be told, and what a request can ask for."""

from dataclasses import dataclass

from megavit.config.checks import check_choice, check_device, check_integer, check_positive, check_range

MOST_IMAGES = 256
"""In one request."""
DEFAULT_TOP, MOST_TOP = 5, 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a server.

    Attributes:
        host, port: to listen on; port 0 takes a free one.
        batch_size: images that a model computes together, at most.
        queue: images accepted and not yet answered, at most, for each model.
        max_body: bytes of a request's body.
        max_pixels: of an image.
        read_timeout: seconds in which a request must have arrived, whole.
        timeout: seconds in which an accepted request is answered, or refused.
        keep_alive: seconds in which a connection's next request must have begun. Longer than proxies before us keep a
            connection: they close it then, not we in the middle of a request.
        load_timeout: seconds in which a worker must have loaded its model.
        device, precision, keep_aspect: as `megavit.load` takes them.
        api_key: that requests must carry; None: none.
        worker: the module that is run for each model.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    batch_size: int = 32
    queue: int = 128
    max_body: int = 32 * 2**20
    max_pixels: int = 50_000_000
    read_timeout: float = 10.0
    timeout: float = 30.0
    keep_alive: float = 75.0
    load_timeout: float = 300.0
    device: str = "auto"
    precision: str = "float32"
    keep_aspect: bool = False
    api_key: str | None = None
    worker: str = "megavit.serve.workers.worker"

    def __post_init__(self) -> None:
        check_range("port", self.port, 0, 65_535)
        check_range("batch-size", self.batch_size, 1, 4096)
        check_range("queue", self.queue, 1, 100_000)
        check_range("max-body", self.max_body, 1, 2**30)
        check_integer("max-pixels", self.max_pixels, minimum=1)
        check_positive("read-timeout", self.read_timeout)
        check_positive("timeout", self.timeout)
        check_positive("keep-alive", self.keep_alive)
        check_positive("load-timeout", self.load_timeout)
        check_device("device", self.device)
        check_choice("precision", self.precision, ("float32", "bfloat16", "int8"))

    @property
    def most_images(self) -> int:
        """In one request: what the queue could never hold is refused for good, not until later."""
        return min(MOST_IMAGES, self.queue)

    @property
    def most_bytes(self) -> int:
        """Of all bodies together that are being read or answered."""
        return 8 * self.max_body


@dataclass(frozen=True)
class Options:
    """What a request asks for of its images: the query of `POST /predict`."""

    top: int = DEFAULT_TOP
    coverage: float | None = None
    embedding: bool = False
    explanation: bool = False


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told when it is started.

    Attributes:
        source: folder of a bundle or a run, or hf-hub:USER/NAME.
        device, precision, keep_aspect: as `megavit.load` takes them.
        batch_size: images that are computed together, at most.
        max_pixels: of an image.
        batch_seconds: a batch is made no larger than what is computed in this time.
    """

    source: str
    device: str
    precision: str
    keep_aspect: bool
    batch_size: int
    max_pixels: int
    batch_seconds: float
