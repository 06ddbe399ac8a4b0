"""The box term of the detector loss: 1 - IoU of a kind, or squares; true or darknet's gradient."""

from mindspore import Tensor, nn, ops

from mindyolo_v4.anchors import AnchorSet
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.losses.darknet import box_gradient, limit, with_gradient_of
from mindyolo_v4.losses.decode import Planes, decode_planes, of_level
from mindyolo_v4.losses.iou import box_similarity

# Padding has width and height 0, which have no logarithm; smaller than any target, pixels.
_LEAST_SIZE = 1e-3


class BoxTerm(nn.Cell):
    """Compare the boxes of matches with their targets.

    box = box_gain sum w (1 - CIoU) / B, or another kind of IoU. With `mse`, the squared loss of
    YOLOv3 (Redmon and Farhadi 2018, section 2.1; darknet `delta_yolo_box`, `iou_loss=mse`),
    box_gain sum w (2 - w_t h_t) (d_x^2 + d_y^2 + d_w^2 + d_h^2) / 2B, where w_t and h_t are
    fractions of the input and d is prediction minus target: d_x = b_x - x_t in cells,
    d_w = t_w - ln(w_t / a_w), or with `box_decode: square` sigma(t_w) - sqrt(w_t / (4 a_w)).

    With `gradient: darknet` the descent direction in the logits, over B, is darknet's delta:
    n e^(t_w) D_w for w, n D_x for x, with D of `losses.darknet.box_gradient` and n the
    `iou_normalizer` times the weight of the class, limited to `max_delta` per match; with
    `box_decode: square` n D_w; with `mse` -n (2 - w_t h_t) d, not limited. There are no other inner
    derivatives. The weight 1/m of a match comes after the limit, as in darknet.

    Args:
        img_size: side of the square input, pixels.
    """

    def __init__(self, anchors: AnchorSet, img_size: int, loss: LossConfig) -> None:
        super().__init__()
        self.square_sizes = anchors.levels[0].box_decode == "square"
        self.img_size = float(img_size)
        self.gain = loss.box_gain
        self.kind = "ciou" if loss.box == "mse" else loss.box
        strides = tuple(level.stride for level in anchors.levels)
        is_squared = loss.box == "mse"
        self.strides = Tensor(of_level(strides, anchors, img_size)) if is_squared else None
        self.iou_normalizer = loss.iou_normalizer if loss.gradient == "darknet" else None
        self.max_delta = loss.max_delta
        self.is_weighted = loss.class_weights is not None

    def construct(
        self,
        logits: Planes,
        constants: tuple[Tensor, ...],
        targets: Planes,
        prediction: Tensor,
        weight: Tensor,
        class_weight: Tensor | float,
    ) -> tuple[Tensor, Tensor]:
        """Return the term, a scalar, and the similarity of boxes and targets (B, 1, P).

        Args:
            logits, constants, targets: of the matches, each plane (B, 1, P).
            prediction: int32 (B, 1, P).
            weight: of the matches (B, 1, P).
            class_weight: of their classes (B, 1, P), or 1.
        """
        boxes = decode_planes(logits, constants, self.square_sizes)
        similarity = box_similarity(boxes, targets, self.kind)
        images = weight.shape[0]
        weighted = weight * class_weight if self.is_weighted else weight
        if self.strides is None:
            value = ops.sum(weighted * (1.0 - similarity))
        else:
            differences = self._differences(logits, boxes, targets, constants, prediction)
            small = 2.0 - targets[2] * targets[3] / self.img_size**2
            value = ops.sum(weighted * small * _half_square(differences))
        value = value * (self.gain / images)
        if self.iou_normalizer is None:
            return value, similarity

        step = self.iou_normalizer * class_weight
        if self.strides is None:
            deltas = self._similarity_deltas(boxes, targets, constants, step)
        else:
            deltas = _scaled(differences, -step * small)
        surrogate = 0.0
        # The graph parser knows no strict=.
        for logit, delta in zip(logits, deltas):  # noqa: B905
            surrogate -= ops.sum(weight * ops.stop_gradient(delta) * logit)
        return with_gradient_of(value, surrogate * (1.0 / images)), similarity

    def _similarity_deltas(
        self, boxes: Planes, targets: Planes, constants: tuple[Tensor, ...], step: Tensor | float
    ) -> Planes:
        """Return darknet's deltas of t_x, t_y, t_w, t_h for the kinds of IoU."""
        to_fraction = 1.0 / self.img_size
        fractions = _scaled(boxes, to_fraction)
        x, y, w, h = box_gradient(fractions, _scaled(targets, to_fraction), self.kind)
        if not self.square_sizes:
            w = w * boxes[2] / constants[3]  # e^t_w
            h = h * boxes[3] / constants[4]
        deltas = ()
        for plane in _scaled((x, y, w, h), step):
            deltas += (limit(plane, self.max_delta),)
        return deltas

    def _differences(
        self,
        logits: Planes,
        boxes: Planes,
        targets: Planes,
        constants: tuple[Tensor, ...],
        prediction: Tensor,
    ) -> Planes:
        """Return what the squared loss squares: prediction minus target."""
        stride = ops.gather(self.strides, prediction, 0)
        x = (boxes[0] - targets[0]) / stride
        y = (boxes[1] - targets[1]) / stride
        ratio_w = ops.clamp(targets[2], min=_LEAST_SIZE) / constants[3]
        ratio_h = ops.clamp(targets[3], min=_LEAST_SIZE) / constants[4]
        if self.square_sizes:
            w = ops.sigmoid(logits[2]) - ops.sqrt(ratio_w / 4)
            h = ops.sigmoid(logits[3]) - ops.sqrt(ratio_h / 4)
            return x, y, w, h
        return x, y, logits[2] - ops.log(ratio_w), logits[3] - ops.log(ratio_h)


def _half_square(planes: Planes) -> Tensor:
    """Return half the sum of the squares, whose derivative by a plane is the plane."""
    x, y, w, h = planes
    return 0.5 * (ops.square(x) + ops.square(y) + ops.square(w) + ops.square(h))


def _scaled(planes: Planes, factor: Tensor | float) -> Planes:
    x, y, w, h = planes
    return x * factor, y * factor, w * factor, h * factor
