"""Serve predictions over HTTP: mindyolo-v4 serve --weight W [--host H --port N]"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.evaluate import PREDICTION
from mindyolo_v4.config.recipe import build_record, print_config, read_tree
from mindyolo_v4.data.images import grey_image
from mindyolo_v4.deploy.extras import import_extra
from mindyolo_v4.deploy.opening import open_backend, open_weights
from mindyolo_v4.deploy.predictor import Predictor
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.log import log_to_console
from mindyolo_v4.runtime.process import Process
from mindyolo_v4.runtime.signals import StopSignals
from mindyolo_v4.serve.batching import parts
from mindyolo_v4.serve.options import add_options, read_options

if TYPE_CHECKING:
    from uvicorn import Server

_LIBRARIES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_NAMES = ("weight", "device_target", "img_size", "conf_thres", "iou_thres", "max_det")
_NAMES += ("tta", "tile", "overlap")
_LOWEST_CONF = "0.05"  # of the objects that the page's slider can show
_MAX_MEGAPIXELS = "50"
_LOOK_INTERVAL_S = 0.1  # how often a signal is looked for
_STOP_TIMEOUT_S = 30  # for clients that do not take their answers

logger = logging.getLogger(__name__)


def main(argv: Sequence[str], signals: StopSignals | None = None) -> int:
    """Serve until a signal arrives; return the exit status."""
    defaults = {
        "img_size": "that of the weights",
        "conf_thres": _LOWEST_CONF,
        "iou_thres": PREDICTION["evaluate.iou_thres"],
    }
    text = "Serve predictions over HTTP."
    parser = build_parser(command_for("serve"), text, _NAMES, defaults=defaults)
    parser.add_argument(
        "--max_megapixels", help=f"most pixels of a picture, 10^6 (default: {_MAX_MEGAPIXELS})"
    )
    add_options(parser)
    words = parse(parser, argv)
    megapixels = words.options["max_megapixels"] or _MAX_MEGAPIXELS
    own = {"data.max_megapixels": str(megapixels), "evaluate.conf_thres": _LOWEST_CONF}
    words = words.with_defaults({**PREDICTION, **own})
    recipe = read_tree(words.config)
    overrides = read_tree(None, words.overrides)
    build_record(DataConfig, overrides["data"], "data.")  # a wrong limit, before all else
    if words.print_config:
        weights = open_weights(words.required("weight"))
        return print_config(config_for_checkpoint(weights, recipe, overrides))
    options = read_options(words.options)
    for library in _LIBRARIES:
        import_extra(library, "serve")
    import uvicorn

    from mindyolo_v4.serve.app import create_app

    log_to_console(Process().ranks)
    weight = words.required("weight")
    with bind(options.host, options.port) as listener:  # before the weights, which take longer
        weights = open_weights(weight)
        config = config_for_checkpoint(weights, recipe, overrides)
        predictor = Predictor.of(open_backend(options.backend, weights, config), config)
        warm_up(predictor, options.batch)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(predictor, options),
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                timeout_graceful_shutdown=_STOP_TIMEOUT_S,
            )
        )
        asyncio.run(serve(server, listener, signals or StopSignals()))
    return 0


async def serve(server: "Server", listener: socket.socket, signals: StopSignals) -> None:
    """Serve until a signal arrives, then answer the requests that are under way."""
    with signals.deferred(Process().ranks):
        watch = asyncio.create_task(_stop_on_signal(server, signals))
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        listener.listen()  # so that who reads the line can connect
        logger.info("serving on http://%s:%d (process %d)", shown, port, os.getpid())
        await server.serve([listener])
        await watch
    logger.info("stopped by %s", signals.received.name if signals.received else "the server")


async def _stop_on_signal(server: "Server", signals: StopSignals) -> None:
    while signals.received is None and not server.should_exit:
        await asyncio.sleep(_LOOK_INTERVAL_S)
    server.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at an address. Raises UserError where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        option = "--host" if isinstance(error, socket.gaierror) else "--port"
        problem = f"cannot listen there: {error.strerror}"
        raise UserError(option, problem, f"{host}:{port}") from error
    return listener


def warm_up(predictor: Predictor, largest: int) -> None:
    """Predict one grey batch of each size, since a back-end may compile at the first one."""
    data = predictor.config.data
    image = grey_image(data.img_size, data.pad_value)
    for size in {size for count in range(1, largest + 1) for _, size in parts(count, largest)}:
        list(predictor.stream([("", image)] * size, size))
