"""What self-adversarial training minimises by the image: that the network sees objects in it."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindyolo_v4.anchors import MAX_SIZE_LOGIT, AnchorSet
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.losses.darknet import behind_logistic
from mindyolo_v4.losses.decode import split_anchors

FOUND = 0.25  # a class whose probability times objectness exceeds this counts as found


class HidingLoss(nn.Cell):
    """Sum -delta t over the logits t, so that the derivative by each is -delta.

    The deltas are those of darknet's yolo layer with `adversarial` set and no ground truth, and are
    constants for the gradient:

        delta = s (target - output),  s = sqrt(w h),  w and h as fractions of the input

    The objectness target is 0 in every prediction, and its delta is multiplied by darknet's
    `obj_normalizer`: `loss.obj_gain` times the level's `loss.obj_balance`. Where the network has
    found a class, p_c objectness > 0.25, the target of every class found is 0, that of the other
    classes 1, and that of the four box outputs 0. Other predictions have no class and box deltas.
    The outputs are as in darknet: x and y scaled by `scale_x_y`, the logits for w and h, and
    sigmoids for the rest. With the "square" decode (darknet's `new_coords`) the outputs for w and h
    are sigmoids too, and the derivative by each logit is -delta p (1 - p), p its sigmoid: there
    the last convolution ends in the logistic.

    The paper (Bochkovskiy et al. 2020, section 3.3) names the aim only: the altered image should
    create "the deception that there is no desired object on the image".
    """

    def __init__(self, anchors: AnchorSet, loss: LossConfig) -> None:
        super().__init__()
        self.anchors_per_level = tuple(len(level.anchor_ids) for level in anchors.levels)
        self.square_sizes = anchors.levels[0].box_decode == "square"
        self.scales = tuple(float(level.scale_x_y) for level in anchors.levels)
        balance = loss.obj_balance or (1.0,) * len(anchors.levels)
        self.obj_gains = tuple(loss.obj_gain * factor for factor in balance)
        # sqrt(a_w a_h) of each anchor in cells: (1, A, 1, 1) per level
        roots = []
        for level in anchors.levels:
            areas = np.prod(np.array(level.anchors_wh_px, np.float64), axis=1)
            root = (np.sqrt(areas) / level.stride).reshape(1, -1, 1, 1)
            roots.append(Tensor(root.astype(np.float32)))
        self.roots = tuple(roots)
        self.any_class = ops.ReduceMax(keep_dims=True)
        self.join = ops.Concat(2)
        self.each = ops.HyperMap()

    def construct(self, raw_maps: tuple[Tensor, ...]) -> Tensor:
        """Return the sum of raw maps (B, A(5 + C), H, W) per level, smallest stride first."""
        maps = split_anchors(raw_maps, self.anchors_per_level)
        if self.square_sizes:
            maps = self.each(behind_logistic, maps)
        total = 0.0
        # The graph parser knows no strict=.
        levels = zip(raw_maps, maps, self.roots, self.scales, self.obj_gains)  # noqa: B905
        for raw, logits, root, scale, obj_gain in levels:
            root = root * (1.0 / raw.shape[-1])  # as a fraction of the input
            deltas = self._deltas(ops.stop_gradient(logits), root, scale, obj_gain)
            total = total - ops.sum(ops.stop_gradient(deltas) * logits)
        return total

    def _deltas(self, logits: Tensor, root: Tensor, scale: float, obj_gain: float) -> Tensor:
        """Return the deltas (B, A, 5 + C, H W) of a level."""
        batch, anchors, channels, cells = logits.shape
        xy = ops.sigmoid(ops.slice(logits, (0, 0, 0, 0), (batch, anchors, 2, cells)))
        wh = ops.slice(logits, (0, 0, 2, 0), (batch, anchors, 2, cells))
        objectness = ops.sigmoid(ops.slice(logits, (0, 0, 4, 0), (batch, anchors, 1, cells)))
        size = (batch, anchors, channels - 5, cells)
        classes = ops.sigmoid(ops.slice(logits, (0, 0, 5, 0), size))

        # s = sqrt(w h); (B, A, 1, H W), as all that follows but classes
        if self.square_sizes:
            wh = ops.sigmoid(wh)
            sides = root * 4.0 * ops.prod(wh, 2, keep_dims=True)
        else:
            limited = ops.clamp(wh, max=MAX_SIZE_LOGIT)
            sides = root * ops.exp(0.5 * ops.sum(limited, 2, keepdim=True))

        found = ops.cast(classes * objectness > FOUND, ms.float32)
        has_found = sides * self.any_class(found, 2)
        return self.join(
            (
                has_found * ((scale - 1.0) / 2.0 - scale * xy),
                -has_found * wh,
                -obj_gain * sides * objectness,
                has_found * (1.0 - found - classes),
            )
        )
