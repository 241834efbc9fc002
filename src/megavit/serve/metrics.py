"""What `GET /metrics` counts, for Prometheus. Labels take few values: a path that is none of ours is "unknown"."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one server."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._registry = registry
        self.requests = Counter(
            "megavit_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "megavit_request_seconds", "From a request's head to its answer.", ["route"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.refusals = Counter("megavit_refusals", "Requests refused, by kind.", ["kind"], registry=registry)
        self.images = Counter(
            "megavit_images", "Images, by what became of them.", ["model", "outcome"], registry=registry
        )
        self.unlike = Counter(
            "megavit_unlike_training",
            "Images answered that are unlike those of training.",
            ["model"],
            registry=registry,
        )
        self.batches = Histogram(
            "megavit_batch_images", "Images computed together, for each image.", ["model"], buckets=_IMAGES,
            registry=registry,
        )  # fmt: skip
        self.outstanding = Gauge(
            "megavit_outstanding_images", "Images accepted and not yet answered.", ["model"], registry=registry
        )
        self.restarts = Counter(
            "megavit_worker_restarts", "Workers that ended and were started again.", ["model"], registry=registry
        )
        self.swaps = Counter(
            "megavit_swaps", "New bundles found in place of a model's.", ["model", "outcome"], registry=registry
        )
        self.ready = Gauge("megavit_ready", "Whether the model answers.", ["model"], registry=registry)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self._registry)
