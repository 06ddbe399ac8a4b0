"""The detector loss in float64 NumPy, prediction by prediction, apart from the package's own."""

import numpy as np
import pytest

from mindyolo_v4.anchors import decode_boxes


def similarity(box, truth, kind, alpha=None):
    """Return the IoU kind of two boxes (centre and size), and CIoU's alpha."""
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    truth_low, truth_high = truth[:2] - truth[2:] / 2, truth[:2] + truth[2:] / 2
    overlap = np.prod(np.maximum(np.minimum(high, truth_high) - np.maximum(low, truth_low), 0))
    union = np.prod(box[2:]) + np.prod(truth[2:]) - overlap
    hull = np.maximum(high, truth_high) - np.minimum(low, truth_low)
    iou = overlap / union
    if kind == "iou":
        return iou, None
    if kind == "giou":
        return iou - (np.prod(hull) - union) / np.prod(hull), None
    diou = iou - ((box[:2] - truth[:2]) ** 2).sum() / (hull**2).sum()
    if kind == "diou":
        return diou, None
    aspect = 4 / np.pi**2 * (np.arctan(truth[2] / truth[3]) - np.arctan(box[2] / box[3])) ** 2
    alpha = aspect / (1 - iou + aspect + 1e-6) if alpha is None else alpha
    return diou - alpha * aspect, alpha


def bce(logits, targets, gamma=None):
    factor = abs(targets - 1 / (1 + np.exp(-logits))) ** (gamma or 0)
    return factor * (np.logaddexp(0, logits) - targets * logits)


class Oracle:
    """Hold the matches, the ignore mask and CIoU's alphas of `maps` fixed, as the gradient does."""

    def __init__(self, anchors, size, classes, config, truths, maps):
        self.anchors, self.size, self.classes, self.config = anchors, size, classes, config
        self.images = len(truths)
        self.class_weights = config.class_weights or (1.0,) * classes
        self.matches = [self._match(boxes, labels) for boxes, labels in truths]
        boxes = self._predictions(maps)[1]
        self.ignored = np.zeros(boxes.shape[:2], bool)
        self.overlap = np.zeros(boxes.shape[:2])
        for image, (truth_boxes, _) in enumerate(truths):
            for truth in np.array(truth_boxes).reshape(-1, 4) * size:
                iou = [similarity(box, truth, "iou")[0] for box in boxes[image]]
                self.overlap[image] = np.maximum(self.overlap[image], iou)
            self.ignored[image] = self.overlap[image] > config.ignore_threshold
            for prediction, _, _ in self.matches[image]:
                self.ignored[image, prediction] = False
        self.kind = "ciou" if config.box == "mse" else config.box
        self.alphas = None
        self.alphas = self._box_term(boxes)[1]
        self.targets = [
            self._object_targets(*pair) for pair in zip(boxes, self.matches, strict=True)
        ]

    def _match(self, boxes, labels):
        """Return (prediction, truth in pixels, class) of every match."""
        matches = []
        for box, label in zip(np.array(boxes).reshape(-1, 4), labels, strict=True):
            sizes = np.array(self.anchors.anchors_wh_px)
            overlap = np.minimum(sizes, box[2:] * self.size).prod(1)
            iou = overlap / (sizes.prod(1) + (box[2:] * self.size).prod() - overlap)
            start = 0
            for level in self.anchors.levels:
                side = self.size // level.stride
                column, row = (min(int(centre * side), side - 1) for centre in box[:2])
                for anchor in level.anchor_ids:
                    if anchor == iou.argmax() or iou[anchor] > self.config.anchor_threshold:
                        matches.append((start + row * side + column, box * self.size, label))
                    start += side * side
        return matches

    def _object_targets(self, boxes, matches):
        """Return objectness target and weight of each matched prediction, of its first match."""
        targets = {}
        for prediction, truth, label in matches:
            value = np.clip(similarity(boxes[prediction], truth, self.kind)[0], 0, 1)
            target = value if self.config.objectness_target == "iou" else 1.0
            targets.setdefault(prediction, (target, self.class_weights[label]))
        return targets

    def _predictions(self, maps):
        """Return logits (B, N, 5 + C) and boxes (B, N, 4)."""
        logits, boxes = [], []
        for level_map, level in zip(maps, self.anchors.levels, strict=True):
            side = self.size // level.stride
            rows, columns = np.divmod(np.arange(side * side), side)
            split = level_map.astype(np.float64).reshape(
                self.images, len(level.anchor_ids), 5 + self.classes, side * side
            )
            for anchor, wh in enumerate(level.anchors_wh_px):
                part = split[:, anchor].transpose(0, 2, 1)
                size = np.full((side * side, 2), wh)
                logits.append(part)
                boxes.append(
                    np.stack([decode_boxes(p[:, :4], columns, rows, size, level) for p in part])
                )
        return np.concatenate(logits, 1), np.concatenate(boxes, 1)

    def _box_term(self, boxes):
        """Return the box term of every prediction (B, N), and every match's alpha."""
        term, alphas = np.zeros(boxes.shape[:2]), []
        for image, matches in enumerate(self.matches):
            for prediction, truth, label in matches:
                sharing = len({label for other, _, label in matches if other == prediction})
                fixed = None if self.alphas is None else self.alphas[len(alphas)]
                value, alpha = similarity(boxes[image, prediction], truth, self.kind, fixed)
                alphas.append(alpha)
                weight = self.class_weights[label] / sharing
                term[image, prediction] += weight * (1 - value)
        return term, alphas

    def _squared_term(self, logits, boxes):
        """Return YOLOv3's squared loss of every prediction (B, N)."""
        levels = [
            (level.stride, *wh)
            for level in self.anchors.levels
            for wh in level.anchors_wh_px
            for _ in range((self.size // level.stride) ** 2)
        ]
        term = np.zeros(boxes.shape[:2])
        for image, matches in enumerate(self.matches):
            for prediction, truth, label in matches:
                sharing = len({label for other, _, label in matches if other == prediction})
                stride, *anchor = levels[prediction]
                ratio, t = truth[2:] / anchor, logits[image, prediction, 2:4]
                sizes = t - np.log(ratio)
                if self.anchors.levels[0].box_decode == "square":
                    sizes = 1 / (1 + np.exp(-t)) - np.sqrt(ratio) / 2
                centres = (boxes[image, prediction, :2] - truth[:2]) / stride
                scale = 2 - truth[2] * truth[3] / self.size**2
                weight = scale * self.class_weights[label] / sharing
                term[image, prediction] += weight * ((centres**2).sum() + (sizes**2).sum()) / 2
        return term

    def _terms(self, maps):
        """Return box, objectness and class part of every prediction (3, B, N)."""
        logits, boxes = self._predictions(maps)
        config = self.config
        counted = 1.0 - self.ignored
        target = np.zeros(counted.shape)
        if config.objectness_smooth:
            counted[:], target = 1, self.ignored * self.overlap
        class_term = np.zeros(counted.shape)
        for image, matches in enumerate(self.matches):
            for prediction, values in self.targets[image].items():
                target[image, prediction], counted[image, prediction] = values
                labels = np.zeros(self.classes)
                labels[[label for other, _, label in matches if other == prediction]] = 1
                smooth = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
                entries = bce(logits[image, prediction, 5:], smooth, config.focal_gamma)
                weights = np.where(labels == 1, self.class_weights, 1)
                class_term[image, prediction] = (weights * entries).sum()
        counts = [a.shape[1] // (5 + self.classes) * a[0, 0].size for a in maps]
        counted *= np.repeat(config.obj_balance or (1, 1, 1), counts)
        object_term = counted * bce(logits[..., 4], target, config.focal_gamma)
        box_term = self._box_term(boxes)[0]
        if config.box == "mse":
            box_term = self._squared_term(logits, boxes)
        gains = config.box_gain, config.obj_gain, config.cls_gain
        terms = box_term, object_term, class_term
        weighted = [gain * term for gain, term in zip(gains, terms, strict=True)]
        return np.stack(weighted) / self.images

    def parts(self, maps):
        """Return box, objectness and class part."""
        return self._terms(maps).sum((1, 2)).tolist()

    def finite_differences(self, maps, step=1e-5):
        """Return the central differences of the total with respect to every logit.

        The total is a sum over predictions, and each term depends on the logits of its prediction
        only: one logit of all predictions is moved at a time.
        """
        maps = [level_map.astype(np.float64) for level_map in maps]
        gradients = [np.zeros_like(level_map) for level_map in maps]
        for channel in range(5 + self.classes):
            above, below = (
                self._terms(self._moved(maps, channel, sign * step)).sum(0) for sign in (1, -1)
            )
            slopes = (above - below) / (2 * step)  # (B, N)
            start = 0
            for gradient in gradients:
                of_channel = self._by_anchor(gradient)[:, :, channel]  # (B, A, cells)
                stop = start + of_channel[0].size
                of_channel[:] = slopes[:, start:stop].reshape(of_channel.shape)
                start = stop
        return gradients

    def _moved(self, maps, channel, distance):
        """Return maps in which one logit of every prediction is moved."""
        moved = [level_map.copy() for level_map in maps]
        for level_map in moved:
            self._by_anchor(level_map)[:, :, channel] += distance
        return moved

    def _by_anchor(self, level_map):
        """Return a view (B, A, 5 + C, cells) of a map (B, A(5 + C), H, W)."""
        channels = 5 + self.classes
        return level_map.reshape(self.images, level_map.shape[1] // channels, channels, -1)


@pytest.fixture
def loss_oracle() -> type[Oracle]:
    """Return the oracle's class: tests are imported one by one and share code through fixtures."""
    return Oracle
