"""The addresses of the service and what they answer."""

import asyncio
import time
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from mindyolo_v4 import __version__
from mindyolo_v4.data.images import ImageReadError
from mindyolo_v4.deploy.outputs import jpeg_bytes
from mindyolo_v4.errors import UserError, printable, require, require_range
from mindyolo_v4.serve.batching import Batcher, ImagePredictor
from mindyolo_v4.serve.metrics import Metrics
from mindyolo_v4.serve.options import ServeOptions
from mindyolo_v4.serve.uploads import Refusal, discard_upload, read_upload

DEFAULT_CONF = 0.25
_LONGEST = 500  # characters of a message
# The page loads nothing from elsewhere, and nobody else's page may show it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
}
# What /openapi.json says of /predict: FastAPI reads neither its body nor its answers.
_BYTES = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _BYTES}}
_BODY = {"image/*": {"schema": _BYTES}, "multipart/form-data": {"schema": _FORM}}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_REFUSALS = {
    400: "No image, or a wrong parameter",
    408: "The upload took too long",
    413: "The upload is too large",
    503: "Too many requests wait",
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
    for status, text in _REFUSALS.items()
}
_ANSWERS[200] = {
    "description": "The prediction, or the picture with it",
    "content": {"image/jpeg": {"schema": _BYTES}},
}
# With it, FastAPI adds no answer 422 of its own: the service gives 400 for a wrong parameter.
_ANSWERS["default"] = {"description": "The service failed"}
# A client that was not heard to its end may still send.
_CLOSE = {"Connection": "close"}


class Service:
    """One predictor with its limits and counters."""

    def __init__(self, predictor: ImagePredictor, options: ServeOptions):
        self._predictor = predictor
        self._options = options
        self.metrics = Metrics()
        self._batcher = Batcher(predictor, options.batch, self.metrics.images.observe)
        self._unanswered = 0

    @property
    def lowest_conf(self) -> float:
        """The score below which the network's objects are dropped."""
        return self._predictor.config.evaluate.conf_thres

    @property
    def default_conf(self) -> float:
        """The lowest score where a request states none."""
        return max(DEFAULT_CONF, self.lowest_conf)

    def describe(self) -> dict[str, Any]:
        """Return what /health says."""
        card = self._predictor.card
        return {
            "status": "ok",
            "version": __version__,
            "task": card.task,
            "architecture": card.model.architecture,
            "class_names": list(card.class_names),
            "lowest_conf": self.lowest_conf,
            "default_conf": self.default_conf,
            "max_mb": self._options.max_mb,
            "max_megapixels": self._predictor.config.data.max_megapixels,
        }

    async def answer(self, request: Request, conf: str | None, form: str) -> Response:
        """Return the answer to a picture, or why there is none, and count it."""
        started_s = time.perf_counter()
        self.metrics.unanswered.inc()
        status = 500
        try:
            response = await self._predict(request, conf, form)
            status = response.status_code
            return response
        except Refusal as refusal:
            status = refusal.status
            return _refused(status, str(refusal), _CLOSE)
        except (UserError, ImageReadError) as error:
            status = 400
            return _refused(status, str(error))
        finally:
            self.metrics.unanswered.dec()
            self.metrics.requests.labels(str(status)).inc()
            if status == 200:
                self.metrics.seconds.observe(time.perf_counter() - started_s)

    async def _predict(self, request: Request, conf: str | None, form: str) -> Response:
        if self._unanswered >= self._options.queue:
            await discard_upload(request, self._options.timeout)
            raise Refusal(503, f"the queue is full: {self._options.queue} requests wait")
        self._unanswered += 1
        try:
            limits = self._options.max_bytes, self._options.timeout
            name, encoded = await read_upload(request, *limits)
            lowest = self._lowest_score(conf)
            require(form in ("json", "image"), "format", "unknown", form, "json | image")
            prediction = await self._batcher.predict(name, encoded)
            if prediction.boxes_xyxy_px is not None:
                prediction = prediction.of_scores(lowest)
            if form == "json":
                return JSONResponse(prediction.to_dict())
            drawn = await asyncio.to_thread(lambda: jpeg_bytes(prediction.draw()))
            if drawn is None:
                raise ImageReadError(name or "image", "is too large for a drawn JPEG")
            return Response(drawn, media_type="image/jpeg")
        finally:
            self._unanswered -= 1

    def _lowest_score(self, conf: str | None) -> float:
        try:
            lowest = self.default_conf if conf is None else float(conf)
        except ValueError:
            raise UserError("conf", "is not a number", conf) from None
        require_range("conf", lowest, self.lowest_conf, 1.0)
        return lowest


def create_app(predictor: ImagePredictor, options: ServeOptions) -> FastAPI:
    """Return the service of a predictor as an ASGI application."""
    service = Service(predictor, options)
    page = resources.files("mindyolo_v4.serve").joinpath("page.html").read_text("utf-8")
    # The pages of FastAPI's own documentation load scripts from elsewhere.
    app = FastAPI(title="mindyolo_v4", version=__version__, docs_url=None, redoc_url=None)

    body = {"requestBody": {"required": True, "content": _BODY}}

    @app.post("/predict", responses=_ANSWERS, openapi_extra=body)
    async def predict(request: Request, conf: str | None = None, format: str = "json") -> Response:
        """Predict one picture: the body, or the file of a multipart form."""
        return await service.answer(request, conf, format)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the service lives, and what it predicts."""
        return service.describe()

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        """Return the page."""
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    return app


def _refused(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    more = {"Retry-After": "1"} if status == 503 else {}
    content = {"error": printable(text, _LONGEST)}
    return JSONResponse(content, status, {**(headers or {}), **more})
