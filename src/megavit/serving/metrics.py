"""Define the Prometheus metrics of the server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server. All unknown paths share the route "unknown", to bound the number of labels."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"megavit_{name}", help, labels, registry=registry)

        def gauge(name: str, help: str) -> Gauge:
            return Gauge(f"megavit_{name}", help, ["model"], registry=registry)

        def histogram(name: str, help: str, label: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"megavit_{name}", help, [label], buckets=buckets, registry=registry)

        self.requests = counter("requests", "HTTP requests.", "route", "method", "status")
        self.errors = counter("errors", "Error responses by code.", "code")
        self.seconds = histogram("request_duration_seconds", "Time to answer a request.", "route", _SECONDS)
        self.images = counter("images", "Images by outcome.", "model", "outcome")
        self.out_of_distribution = counter("out_of_distribution", "Images unlike the training images.", "model")
        self.batch_size = histogram("batch_size", "Size of the batch of each image.", "model", _BATCH_SIZES)
        self.images_in_progress = gauge("images_in_progress", "Images accepted and not yet answered.")
        self.worker_restarts = counter("worker_restarts", "Workers that exited and were restarted.", "model")
        self.reloads = counter("reloads", "Reloads of replaced bundles by outcome.", "model", "outcome")
        self.ready = gauge("model_ready", "1 if the model accepts images.")

    def render(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)
