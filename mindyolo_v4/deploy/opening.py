"""A weight file and the name of a back-end -> what runs the network."""

import hashlib
import importlib.util
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mindyolo_v4 import __version__
from mindyolo_v4.config.root import Config
from mindyolo_v4.cpu_ops.build import BuildError, cache_folder
from mindyolo_v4.data.views import input_variants
from mindyolo_v4.deploy.backends import BACKENDS, EXTRAS, FOREIGN, Backend
from mindyolo_v4.deploy.exported import SUFFIXES, ExportedFile
from mindyolo_v4.deploy.extras import import_extra, is_usable
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.runtime.files import sha256_of, whole_file
from mindyolo_v4.runtime.process import Process

if TYPE_CHECKING:
    from mindyolo_v4.checkpoint.file import Checkpoint

_OPSET = 13  # old releases read it; OpenVINO and OpenCV recognise the Mish that is composed there

logger = logging.getLogger(__name__)


def open_weights(path: str | Path) -> "Checkpoint | ExportedFile":
    """Open a checkpoint, or a file of export.py, for which MindSpore is not loaded.

    Raises:
        UserError: there is no such file, it is damaged, or it is not ours.
    """
    if Path(path).suffix.lower() in SUFFIXES:
        return ExportedFile.open(Path(path))
    from mindyolo_v4.checkpoint.file import Checkpoint

    return Checkpoint.open(path)


def choose_backend(name: str | None, weights: "Checkpoint | ExportedFile", config: Config) -> str:
    """Return the back-end for a name: that of `auto`, and of None, which is for commands.

    None means MindSpore for a checkpoint and `auto` for an exported file. `auto` is the fastest
    that is installed; of a checkpoint, MindSpore where there is another device than the CPU. For an
    int8 ONNX file it is ONNX Runtime, which has judged it: OpenVINO may lose more AP.

    Raises:
        UserError: the back-end does not read the file.
    """
    require(name in (None, *BACKENDS), "--backend", "unknown", name, " | ".join(BACKENDS))
    if isinstance(weights, ExportedFile):
        suffix = weights.path.suffix.lower()
        readers = ["openvino"] if suffix == ".xml" else list(FOREIGN)
        if name in (None, "auto"):
            if weights.is_int8_onnx:
                readers.sort(key=lambda reader: reader != "onnxruntime")
            # of an .xml file, the absence of openvino is the message
            return next(filter(_is_usable, readers), readers[0])
        expected = " | ".join(readers)
        require(name in readers, "--backend", f"does not read {suffix} files", name, expected)
        return str(name)
    if name != "auto":
        return name or "mindspore"
    from mindyolo_v4.runtime.device import choose_device

    on_cpu = choose_device(config.device_target) == "CPU"
    if not on_cpu or importlib.util.find_spec("onnx") is None:
        return "mindspore"
    return next(filter(_is_usable, FOREIGN))


def start_runtime(chosen: str, config: Config) -> Process:
    """Start MindSpore where it runs the network; otherwise this process is alone."""
    if chosen != "mindspore":
        return Process()
    from mindyolo_v4.runtime.device import start

    return start(config)


def open_backend(
    name: str, weights: "Checkpoint | ExportedFile", config: Config, runtime: Process | None = None
) -> Backend:
    """Return the back-end that runs a network on inputs of the configured sizes.

    Of a checkpoint, the other programs than MindSpore run an ONNX file, which is made on first use.

    Args:
        name: one of BACKENDS.
        runtime: MindSpore's, where it was started already.

    Raises:
        UserError: the back-end is not installed, or does not read the file.
    """
    chosen = choose_backend(name, weights, config)
    if not isinstance(weights, ExportedFile):
        if chosen == "mindspore":
            from mindyolo_v4.deploy.mindspore_backend import MindSporeBackend

            return MindSporeBackend(weights, config, runtime)
        import_extra("onnx", "onnx")
        weights = onnx_of(weights, is_fixed=chosen == "opencv")
    variants = input_variants(config.data, config.evaluate)
    sizes_hw = [(variant.input_height, variant.input_width) for variant in variants]
    backend = FOREIGN[chosen](weights, sizes_hw)
    logger.info("back-end %s: %s", chosen, weights.path)
    return backend


def _is_usable(backend: str) -> bool:
    return backend not in EXTRAS or is_usable(backend)


def onnx_of(checkpoint: "Checkpoint", is_fixed: bool) -> ExportedFile:
    """Return a checkpoint's ONNX file, made on first use, or again where it is damaged.

    It lies beside the checkpoint, or in the cache folder where that is not writable. Its name
    holds a hash of the checkpoint's content and of this package's version.

    Args:
        is_fixed: the file states one image of the card's size, and not any number of any size.
    """
    made_of = f"{__version__} {_OPSET} {sha256_of(checkpoint.path)}"
    digest = hashlib.sha256(made_of.encode())
    ending = "-fixed.onnx" if is_fixed else ".onnx"
    name = f"{checkpoint.path.stem}.{digest.hexdigest()[:16]}{ending}"
    folders = [checkpoint.path.absolute().parent]
    with suppress(BuildError):  # a user without a home folder
        folders.append(cache_folder())
    for folder in folders:
        if (folder / name).is_file():
            try:
                return ExportedFile.open(folder / name)
            except UserError as error:
                logger.warning("%s, and is made again", error)
    content = _onnx_bytes(checkpoint, is_fixed)
    failure: OSError | None = None
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / name, len(content)) as unfinished:
                unfinished.write_bytes(content)
        except OSError as error:
            failure = error
            continue
        logger.info("made %s of %s", folder / name, checkpoint.path)
        return ExportedFile.open(folder / name)
    raise UserError(checkpoint.path, f"no folder takes its ONNX file: {failure}")


def _onnx_bytes(checkpoint: "Checkpoint", is_fixed: bool) -> bytes:
    from mindyolo_v4.deploy.onnx_graph import OnnxOptions, build_onnx
    from mindyolo_v4.weights.files import read_own

    checkpoint.check_network(whole=True)
    card = checkpoint.card
    options = OnnxOptions(opset=_OPSET)
    if is_fixed:
        size_hw_px = (card.img_height or card.img_size, card.img_size)
        options = replace(options, size_hw_px=size_hw_px, batch=1)
    content: bytes = build_onnx(read_own(checkpoint).tensors, card, options).SerializeToString()
    return content
