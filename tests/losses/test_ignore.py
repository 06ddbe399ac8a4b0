import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.boxes import cxcywh_to_xyxy, pairwise_iou
from mindyolo_v4.losses import ignore
from mindyolo_v4.losses.ignore import broadcast_greatest, overlaps_target, tiled_greatest

FORMS = [tiled_greatest, broadcast_greatest]


def overlaps(form):
    """Return the ignore rule in a form."""

    def rule(boxes, truths, threshold):
        return overlaps_target(boxes, truths, threshold, form)

    return rule


def best_iou(form):
    """Return the best IoU in a form."""

    def best(boxes, truths):
        return form(boxes, truths, None)

    return best


def scene(rng, images=2, predictions=400, truths=7, padding=3):
    sizes = rng.uniform(20, 40, (images, truths, 2))
    truth = np.concatenate([rng.uniform(0, 100, (images, truths, 2)), sizes], axis=2)
    boxes = truth[:, rng.integers(0, truths, predictions)] + rng.normal(
        0, 3, (images, predictions, 4)
    )
    table = np.concatenate([cxcywh_to_xyxy(truth), np.zeros((images, padding, 4))], axis=1)
    planes = ms.mutable(tuple(Tensor(boxes[:, None, :, i].astype(np.float32)) for i in range(4)))
    return boxes, table, planes, Tensor(table.transpose(0, 2, 1).astype(np.float32))


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_equals_pairwise_iou(form, graph, rng, monkeypatch):
    # At most four truths per chunk; the last chunk is filled up, or chunks differ in size.
    monkeypatch.setattr(ignore, "_CHUNK_ELEMENTS", 4 * 800)
    monkeypatch.setattr(ignore, "_BROADCAST_ELEMENTS", 4 * 800)
    boxes, table, planes, truths = scene(rng)
    rule = overlaps(form)
    found = (ms.jit(rule) if graph else rule)(planes, truths, 0.7).asnumpy()[:, 0]
    for image in range(2):
        iou = pairwise_iou(cxcywh_to_xyxy(boxes[image]), table[image]).max(axis=1)
        clear = abs(iou - 0.7) > 1e-5
        np.testing.assert_array_equal(found[image][clear], (iou > 0.7)[clear])
    assert 0 < found.sum() < found.size


@pytest.mark.parametrize("form", FORMS)
def test_padding_ignores_nothing(form):
    sizes = np.array([[[0.0, 1e-5, 300.0, 1e5]]], np.float32)
    planes = ms.mutable((Tensor(sizes * 0), Tensor(sizes * 0), Tensor(sizes), Tensor(sizes)))
    no_truths = Tensor(np.zeros((1, 4, 6), np.float32))
    assert not ms.jit(overlaps(form))(planes, no_truths, 0.0).asnumpy().any()


@pytest.mark.parametrize("form", FORMS)
def test_best_iou_equals_pairwise_iou(form, rng, monkeypatch):
    monkeypatch.setattr(ignore, "_CHUNK_ELEMENTS", 4 * 800)
    monkeypatch.setattr(ignore, "_BROADCAST_ELEMENTS", 4 * 800)
    boxes, table, planes, truths = scene(rng)
    found = ms.jit(best_iou(form))(planes, truths).asnumpy()[:, 0]
    for image in range(2):
        iou = pairwise_iou(cxcywh_to_xyxy(boxes[image]), table[image]).max(axis=1)
        np.testing.assert_allclose(found[image], iou, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_best_iou_with_padding_alone_is_0(form):
    sizes = np.array([[[0.0, 1e-5, 300.0]]], np.float32)
    planes = ms.mutable((Tensor(sizes * 0), Tensor(sizes * 0), Tensor(sizes), Tensor(sizes)))
    no_truths = Tensor(np.zeros((1, 4, 6), np.float32))
    assert not ms.jit(best_iou(form))(planes, no_truths).asnumpy().any()
