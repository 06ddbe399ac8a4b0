"""What we are compared with, installed once by pip into scratch environments outside the checkout.

They lie in `peers/` of the cache folder that the package's own compiled operators use
($MINDYOLO_V4_CACHE, else the user's cache folder) and may be deleted at any time. MINDYOLO_V4_TORCH
names another PyTorch, as pip does.
"""

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from mindyolo_v4.cpu_ops.build import cache_folder

# The newest PyTorch; for Linux it brings gigabytes of CUDA, not used here.
TORCH = os.environ.get("MINDYOLO_V4_TORCH", "torch")
# Of ultralytics only the data set is measured.
TORCH_OF_ULTRALYTICS = os.environ.get("MINDYOLO_V4_TORCH", "torch==2.13.0")
NUMPY = "numpy<2"
OPENCV = "opencv-python-headless<4.12"  # later ones want numpy 2


@dataclass(frozen=True)
class Peer:
    """What pip is asked for, in two steps."""

    shown: tuple[str, ...]  # distributions whose versions are printed
    requirements: tuple[str, ...]
    bare: tuple[str, ...] = ()  # installed without what they depend on


MINDSPORE_VERSIONS = ("2.7.2", "2.8.0", "2.9.0", "2.10.0")
_OUR_REQUIREMENTS = (
    NUMPY,
    OPENCV,
    "filelock",
    "matplotlib",
    "pillow",
    "psutil",
    "pycocotools",
    "pyyaml",
    "safetensors",
    "tensorboardX",
    "tqdm",
)
_ULTRALYTICS_NEEDS = ("pyyaml", "pillow", "matplotlib", "requests", "psutil", "scipy", "polars")
PEERS = {
    "torch": Peer(("torch", "torchvision"), (TORCH, "torchvision", NUMPY)),
    # Without --no-deps it would bring opencv-python, and torchvision a PyTorch for CUDA.
    "ultralytics": Peer(
        ("ultralytics", "torch"),
        (TORCH_OF_ULTRALYTICS, NUMPY, OPENCV, *_ULTRALYTICS_NEEDS),
        ("ultralytics", "torchvision"),
    ),
    "coco": Peer(("hotcoco", "pycocotools"), ("hotcoco>=1.3,<2", "pycocotools", NUMPY)),
    **{
        f"mindspore-{version}": Peer(("mindspore",), (f"mindspore=={version}", *_OUR_REQUIREMENTS))
        for version in MINDSPORE_VERSIONS
    },
}


def peer_folder() -> Path:
    """Return where the scratch environments lie."""
    return cache_folder() / "peers"


def peer_python(name: str) -> Path:
    """Return the interpreter of a peer's environment, installed if need be; print its versions."""
    peer = PEERS[name]
    folder = peer_folder() / name
    python = folder / "bin" / "python"
    record = folder / "installed.json"
    wanted = json.dumps([peer.requirements, peer.bare])
    if not record.is_file() or record.read_text("utf-8") != wanted:
        print(f"installing {', '.join(peer.requirements + peer.bare)} into {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        _pip(python, *peer.requirements)
        if peer.bare:
            _pip(python, "--no-deps", *peer.bare)
        record.write_text(wanted, "utf-8")
    versions = installed_versions(python, peer.shown)
    print(
        "peer: " + ", ".join(f"{shown} {version}" for shown, version in versions.items()),
        flush=True,
    )
    return python


def installed_versions(python: Path, distributions: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of distributions that an interpreter sees."""
    code = (
        "import sys; from importlib import metadata; "
        "print(*(metadata.version(name) for name in sys.argv[1:]))"
    )
    done = subprocess.run(
        [python, "-c", code, *distributions], capture_output=True, text=True, check=True
    )
    return dict(zip(distributions, done.stdout.split(), strict=True))


def _pip(python: Path, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "install", "-qq", *arguments], stdout=sys.stderr, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"pip could not install {' '.join(arguments)}")
