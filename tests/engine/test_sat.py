"""Self-adversarial training: the images' gradient, what stays as it is, resume."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.run_folder import step_path
from mindyolo_v4.config.recipe import build_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.detect import TASK
from mindyolo_v4.engine.sat import AlteredImages, SelfAdversary, as_float32
from mindyolo_v4.engine.training import training_cells
from mindyolo_v4.losses.hiding import FOUND
from mindyolo_v4.runtime.precision import to_mixed_precision
from tests.support.rig import RATE, Rig
from tests.support.runs import rows, tensor_bytes
from tests.support.tiny import TinyForward, TinyNet, tiny_batch
from tests.support.tiny_task import RUNTIME, Task, config, fit


class Smooth(nn.Cell):
    """Convolution of 3 to 4 channels, batch normalisation, sigmoid; images are bytes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, has_bias=False)
        self.bn = nn.BatchNorm2d(4, momentum=0.9)
        rng = np.random.default_rng(0)
        self.conv.weight.set_data(Tensor(rng.normal(size=(4, 3, 3, 3)).astype(np.float32)))

    def construct(self, images):
        return ops.sigmoid(self.bn(self.conv(images.astype(ms.float32) / 255.0)))


class SumOfSquares(nn.Cell):
    def construct(self, output):
        return ops.sum(output * output)


def images(seed: int = 0, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 236, (2, 3, size, size)).astype(np.uint8)


def test_image_moves_against_the_gradient_by_finite_differences(graph_mode):
    network = Smooth().set_train(False)
    alter = AlteredImages(network, SumOfSquares())
    before = images()
    after = alter(Tensor(before), Tensor(0.05, ms.float32)).asnumpy()
    assert after.dtype == np.float32

    weight = network.conv.weight.asnumpy().astype(np.float64)

    def loss(x):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        maps = np.einsum("bihwyx,oiyx->bohw", windows, weight) / np.sqrt(1 + 1e-5)
        return (1 / (1 + np.exp(-maps)) ** 2).sum()

    unit = before / 255.0
    for where in ((0, 0, 0, 0), (0, 2, 4, 7), (1, 1, 3, 3)):
        step = np.zeros_like(unit)
        step[where] = 1e-6
        slope = (loss(unit + step) - loss(unit - step)) / 2e-6
        assert after[where] - before[where] == pytest.approx(-255 * 0.05 * slope, rel=1e-3)


def test_the_loss_that_hides_falls_and_pixels_stay_in_range(graph_mode):
    network = Smooth().set_train(False)
    hiding = SumOfSquares()
    alter = AlteredImages(network, hiding)
    before = Tensor(images(1))
    values = [float(hiding(network(before)))]
    for rate in (0.02, 0.1, 50.0):
        after = alter(before, Tensor(rate, ms.float32))
        values.append(float(hiding(network(after))))
    assert values[0] > values[1] > values[2]
    assert after.asnumpy().min() == 0.0 and after.asnumpy().max() == 255.0


def test_a_gradient_that_is_not_finite_leaves_the_pixel(graph_mode):
    alter = AlteredImages(Smooth().set_train(False), Scaled(float("nan")))
    before = images(2)
    after = alter(Tensor(before), Tensor(1.0, ms.float32)).asnumpy()
    np.testing.assert_array_equal(after, before)


class Scaled(nn.Cell):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def construct(self, output):
        return ops.sum(output * self.factor)


@pytest.mark.parametrize("level", ["O0", "O2"])
def test_targets_and_running_statistics_stay(graph_mode, level):
    network = to_mixed_precision(TinyNet(), level).set_train(True)
    alter = AlteredImages(network, Scaled(1e-4), 1.0 if level == "O0" else 1024.0)
    adversary = SelfAdversary(alter, network, np.array([0.0, 1.0]))
    # Far from 0 and 255: a pixel changes by its gradient, not because it is clipped.
    batches = [(100.0 + 20.0 * x, target) for x, target in (tiny_batch(0), tiny_batch(1))]
    before = {name: value.asnumpy().copy() for name, value in network.parameters_dict().items()}
    for step, changes in enumerate((False, True)):
        altered = adversary(step, batches)
        for batch, own in zip(batches, altered, strict=True):
            assert own[1] is batch[1]
            assert own[0].dtype == ms.float32
            assert (own[0].asnumpy() != batch[0].asnumpy()).any() == changes
            assert own[0].asnumpy().min() > 0.0 and own[0].asnumpy().max() < 255.0
    assert network.training
    for name, value in network.parameters_dict().items():
        np.testing.assert_array_equal(value.asnumpy(), before[name])


SEEING = {
    "model": {
        "architecture": "yolov4-tiny",
        "width": 0.125,
        "bn_momentum": 0.0,  # the running statistics are those of the last batch
        "anchors_wh_px": [[16, 16], [16, 24], [24, 16], [24, 24], [32, 24], [24, 32]],
    },
    "data": {"img_size": 64},
    "train": {"sat_prob": 1.0},
}


def seeing_detector(config: Config, noise: np.ndarray) -> nn.Cell:
    """Return a detector that sees objects of its only class everywhere, by the biases.

    Its boxes are at the outputs that the hiding loss wants, about 0, so that almost all of the
    image's gradient is that of objectness and class.
    """
    network = TASK.build(config.model, 1, 0)
    for cell in (network.head.predict4, network.head.predict5):
        bias = np.tile(np.float32([-4, -4, 0, 0, 2, 1]), 3)  # x, y, w, h, objectness, class
        cell.bias.set_data(Tensor(bias))
        cell.weight.set_data(cell.weight * 3.0)
    normalise = TASK.inference(config, network).normalise
    network.set_train(True)
    network(normalise(Tensor(noise)))
    return network


def best_scores(inference: nn.Cell, seen: Tensor) -> np.ndarray:
    """Return the largest objectness x class score of each image."""
    logits = [level.asnumpy().astype(np.float64).reshape(2, 3, 6, -1) for level in inference(seen)]
    both = np.concatenate([level[:, :, 4:] for level in logits], axis=-1)
    return (1 / (1 + np.exp(-both))).prod(axis=2).max(axis=(1, 2))


@pytest.mark.slow
def test_a_detector_sees_its_objects_less_on_the_images_that_it_altered(graph_mode):
    config = build_config(SEEING)
    before = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64)).astype(np.uint8)
    network = seeing_detector(config, before)
    _, _, alter = training_cells(TASK, config, RUNTIME, network, classes=1)
    targets = (Tensor([1]), Tensor([2.0]))
    adversary = SelfAdversary(alter, network, np.array([1e-3]))
    ((after, *kept),) = adversary(0, [(Tensor(before), *targets)])
    assert kept[0] is targets[0] and kept[1] is targets[1]

    moved = abs(after.asnumpy() - before)
    assert after.asnumpy().min() >= 0 and after.asnumpy().max() <= 255
    assert (moved > 0).mean() > 0.9
    scores = [
        best_scores(alter.inference.set_train(False), each) for each in (Tensor(before), after)
    ]
    assert (scores[0] > FOUND).all()
    assert (scores[1] < scores[0] - 1e-3).all()


def test_a_step_on_altered_images_is_a_step_on_these_images(graph_mode):
    rig = Rig(TinyNet(), TinyForward)
    other = Rig(TinyNet(), TinyForward)
    adversary = SelfAdversary(
        AlteredImages(rig.network, Scaled(1e-3)), rig.network, np.array([0.5])
    )
    altered = adversary(0, [tiny_batch(0)])
    rig.step(RATE, altered)
    copied = Tensor(altered[0][0].asnumpy().copy())
    other.step(RATE, [(copied, tiny_batch(0)[1])])
    assert rig.state() == other.state()


class SatTask(Task):
    """The tiny training, with images that alter."""

    def parts(self, **changes):
        alter = AlteredImages(self.network, Scaled(1e-3))
        return super().parts(alter=alter, **changes)


@pytest.mark.slow
def test_resume_is_exact_with_accumulation_and_loss_scale(graph_mode, tmp_path, caplog):
    altering = {"sat_prob": 0.6, "sat_lr": 2.0, "checkpoint_steps": 7}
    settings = config(accumulate=2, loss_scale="dynamic", epochs=3, clip_norm=1.0, **altering)
    caplog.set_level("INFO", logger="mindyolo_v4")
    for name in ("whole", "rest", "plain"):
        (tmp_path / name).mkdir()
    whole = fit(SatTask(steps_per_epoch=8).parts(), settings, RUNTIME, tmp_path / "whole")
    assert ": 3 graphs" in caplog.text  # of altering, adding and applying
    altered = np.count_nonzero(whole.adversary.rates)
    assert 0 < altered < 12
    assert f"images altered in {altered} of 12 steps" in caplog.text

    seventh = Checkpoint.open(step_path(tmp_path / "whole", 7))
    fit(SatTask(steps_per_epoch=8).parts(), settings, RUNTIME, tmp_path / "rest", seventh)
    held = [tensor_bytes(tmp_path / name / "last.ckpt") for name in ("whole", "rest")]
    assert held[0] == held[1]

    fit(Task(steps_per_epoch=8).parts(), settings, RUNTIME, tmp_path / "plain")
    losses = [
        [row["loss"] for row in rows(tmp_path / name / "steps.csv")] for name in ("whole", "plain")
    ]
    first = int(np.flatnonzero(whole.adversary.rates)[0])
    assert losses[0][:first] == losses[1][:first]
    assert losses[0][first] != losses[1][first]


def test_as_float32_keeps_the_values():
    images_uint8 = Tensor(images())
    batch = as_float32((images_uint8, Tensor(1.0)))
    np.testing.assert_array_equal(batch[0].asnumpy(), images_uint8.asnumpy())
