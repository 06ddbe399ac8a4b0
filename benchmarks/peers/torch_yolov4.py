"""YOLOv4 and its loss in plain PyTorch, the peer of the training and inference figures.

Run by the scratch environment's interpreter; it imports nothing of the package. It reads the batch
file that ours reads and prints one JSON object. Modes:
  train   forward, loss, backward and SGD with momentum, float32; eager, or compiled network
  infer   the network alone, each batch normalisation folded into its convolution
  check   raw maps and loss on equal weights against what `benchmarks.common.ours write` wrote
"""

import argparse
import json
import math
import resource
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.common.clock import time_calls
from benchmarks.peers.torch_network import CLASSES, LAYOUTS, Block, YoloV4

STRIDES = (8, 16, 32)
ANCHORS_WH = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)
SCALES_X_Y = (1.2, 1.1, 1.05)
MAP_TOLERANCE = 1e-4  # of the largest magnitude
LOSS_TOLERANCE = 1e-3  # relative


class Loss:
    """CIoU, objectness with the ignore rule and classes, summed over cells, mean over images."""

    def __init__(self, batch):
        self.prediction, self.class_id = (
            torch.from_numpy(batch["match_ids"][:, row]).long() for row in (0, 1)
        )
        self.values = torch.from_numpy(batch["match_values"])  # B, 7, P: box, then three weights
        truths = torch.from_numpy(batch["truths_xyxy_px"]).transpose(1, 2)
        self.truths = [one[one[:, 2] > one[:, 0]] for one in truths]  # without the padding
        self.box_gain, self.obj_gain, self.cls_gain = batch["gains"].tolist()
        self.threshold = float(batch["ignore_threshold"])
        size = batch["images"].shape[2]
        pieces = []
        for stride, anchors, scale in zip(STRIDES, ANCHORS_WH, SCALES_X_Y, strict=True):
            y, x = torch.meshgrid(
                torch.arange(size // stride), torch.arange(size // stride), indexing="ij"
            )
            for anchor_w, anchor_h in anchors:
                cell = torch.stack((x, y), -1).reshape(-1, 2)
                rest = torch.tensor([stride, scale, anchor_w, anchor_h]).expand(len(cell), 4)
                pieces.append(torch.cat((cell, rest), 1))
        self.cells, self.stride, self.scale, self.anchors = torch.cat(pieces).split([2, 1, 1, 2], 1)

    def boxes(self, logits, rows=slice(None)):
        """Logits (..., N, 4) -> centre and size in pixels."""
        scale = self.scale[rows]
        centre = (
            self.cells[rows] + scale * logits[..., :2].sigmoid() - (scale - 1) / 2
        ) * self.stride[rows]
        return centre, self.anchors[rows] * logits[..., 2:].clamp(max=10.0).exp()

    def __call__(self, maps):
        count = maps[0].shape[0]
        flat = flatten(maps)
        box = obj = cls = flat.new_zeros(())
        for image in range(count):
            one = flat[image]
            rows = self.values[image, 4] > 0
            at = self.prediction[image, rows]
            truth = self.values[image][:, rows]
            centre, size = self.boxes(one[at, :4], at)
            box = box + (truth[4] * (1 - ciou(centre, size, truth[:2].T, truth[2:4].T))).sum()
            places, inverse = at.unique(return_inverse=True)
            wanted = one.new_zeros(len(places), CLASSES)
            wanted[inverse, self.class_id[image, rows]] = 1
            cls = cls + F.binary_cross_entropy_with_logits(one[places, 5:], wanted, reduction="sum")
            target = one.new_zeros(len(one))
            target[places] = 1
            trained = ~self.ignored(one[:, :4].detach(), self.truths[image])
            trained[places] = True
            each = F.binary_cross_entropy_with_logits(one[:, 4], target, reduction="none")
            obj = obj + (each * trained).sum()
        box = box * self.box_gain / count
        obj = obj * self.obj_gain / count
        cls = cls * self.cls_gain / count
        return box + obj + cls, (box, obj, cls)

    @torch.no_grad()
    def ignored(self, logits, truths):
        """Tell which predictions overlap some truth by more than the threshold."""
        centre, size = self.boxes(logits)
        low = centre - size / 2
        high = centre + size / 2
        overlap = (
            torch.minimum(high[:, None], truths[:, 2:]) - torch.maximum(low[:, None], truths[:, :2])
        ).clamp(0)
        inside = overlap.prod(2)
        union = size.prod(1)[:, None] + (truths[:, 2:] - truths[:, :2]).prod(1) - inside
        return (inside / union > self.threshold).any(1)


def flatten(maps):
    """Raw maps -> logits (B, N, 5 + C)."""
    levels = [
        one.reshape(len(one), 3, 5 + CLASSES, -1).transpose(2, 3).flatten(1, 2) for one in maps
    ]
    return torch.cat(levels, 1)


def ciou(centre, size, truth_centre, truth_size):
    """Complete IoU of pairs of boxes (Zheng et al. 2020)."""
    low = centre - size / 2
    high = centre + size / 2
    truth_low = truth_centre - truth_size / 2
    truth_high = truth_centre + truth_size / 2
    inside = (torch.minimum(high, truth_high) - torch.maximum(low, truth_low)).clamp(0).prod(1)
    iou = inside / (size.prod(1) + truth_size.prod(1) - inside + 1e-9)
    hull = torch.maximum(high, truth_high) - torch.minimum(low, truth_low)
    apart = (centre - truth_centre).square().sum(1) / (hull.square().sum(1) + 1e-9)
    angle = torch.atan2(truth_size[:, 0], truth_size[:, 1]) - torch.atan2(size[:, 0], size[:, 1])
    v = 4 / math.pi**2 * angle.square()
    with torch.no_grad():
        alpha = v / (1 - iou + v + 1e-6)
    return iou - apart - alpha * v


def train(options, batch):
    """Time training steps."""
    layout = LAYOUTS[options.layout]
    network = YoloV4(options.width, options.depth).to(memory_format=layout).train()
    run = torch.compile(network) if options.compile else network
    loss = Loss(batch)
    kernels = [p for p in network.parameters() if p.ndim == 4]
    rest = [p for p in network.parameters() if p.ndim < 4]
    groups = [{"params": kernels, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1e-5, momentum=0.9)
    images = torch.from_numpy(batch["images"])

    def call():
        inputs = (images.float() / 255).contiguous(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        total, _ = loss(run(inputs))
        total.backward()
        optimizer.step()
        return float(total)

    return {**time_calls(call, options.steps), "loss": call()}


@torch.inference_mode()
def infer(options, batch):
    """Time the network in inference."""
    layout = LAYOUTS[options.layout]
    network = YoloV4(options.width, options.depth).eval()
    for module in network.modules():
        if isinstance(module, Block):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    network = network.to(memory_format=layout)
    run = torch.compile(network) if options.compile else network
    images = (torch.from_numpy(batch["images"]).float() / 255).contiguous(memory_format=layout)
    return time_calls(lambda: run(images), options.steps)


@torch.no_grad()
def check(options, batch):
    """Compare raw maps and loss with ours; exit where they differ."""
    theirs = dict(np.load(options.reference))
    endings = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    weights = {}
    for name in (name for name in theirs if name.startswith("weight:")):
        stem, _, last = name.removeprefix("weight:").rpartition(".")
        weights[f"{stem}.{endings.get(last, last)}"] = torch.from_numpy(theirs[name])
    network = YoloV4(options.width, options.depth).eval()
    missing, unknown = network.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not unknown and not missing, (missing, unknown)
    maps = network(torch.from_numpy(batch["images"]).float() / 255)
    map_error = 0.0
    for level, ours in enumerate(maps):
        map_of_theirs = theirs[f"map:{level}"]
        difference = np.abs(ours.numpy() - map_of_theirs).max() / np.abs(map_of_theirs).max()
        map_error = max(map_error, float(difference))
    loss = Loss(batch)
    total, parts = loss(maps)
    values = np.array([float(one) for one in (total, *parts)])
    loss_error = float(np.max(np.abs(values - theirs["loss"]) / np.abs(theirs["loss"])))
    if map_error > MAP_TOLERANCE or loss_error > LOSS_TOLERANCE:
        errors = f"maps {map_error:.2e}, loss {loss_error:.2e}"
        sys.exit(f"not the same: {errors}: {values} {theirs['loss']}")
    boxes = flatten(maps)[:, :, :4]
    ignored = sum(
        int(loss.ignored(one, truths).sum()) for one, truths in zip(boxes, loss.truths, strict=True)
    )
    return {"map_error": map_error, "loss_error": loss_error, "ignored": ignored}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=("train", "infer", "check"))
    parser.add_argument("--batch_file", required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--layout", choices=LAYOUTS, default="nchw")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--depth", type=float, default=1.0)
    parser.add_argument("--reference", help="what `benchmarks.common.ours write` wrote")
    options = parser.parse_args()
    torch.manual_seed(0)
    result = {"train": train, "infer": infer, "check": check}[options.mode](
        options, dict(np.load(options.batch_file))
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({**result, "version": torch.__version__, "peak_gb": peak_gb}))


if __name__ == "__main__":
    main()
