"""What the service counts, in the text form of Prometheus."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, and the memory and processor time of its process."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        ProcessCollector(registry=own)
        self._registry = own
        self.requests = Counter(
            "mindyolo_v4_requests", "Answers of /predict.", ["status"], registry=own
        )
        self.seconds = Histogram(
            "mindyolo_v4_request_seconds",
            "Time of a /predict with status 200.",
            buckets=_SECONDS,
            registry=own,
        )
        self.images = Histogram(
            "mindyolo_v4_batch_images", "Images per batch.", buckets=_IMAGES, registry=own
        )
        self.unanswered = Gauge(
            "mindyolo_v4_unanswered_requests", "Requests that are read or wait.", registry=own
        )

    def text(self) -> bytes:
        """Return all values as Prometheus reads them."""
        return generate_latest(self._registry)
