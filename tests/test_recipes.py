"""The recipes load, have complete headers, and hold the numbers that their headers derive."""

import re
from pathlib import Path

import pytest
import yaml

from mindyolo_v4.config.recipe import load_config, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.schedule import learning_rates

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
CLASSIFIERS = sorted((CONFIGS / "cspdarknet53").glob("*.yaml"))
RECIPES = [CONFIGS / "quickstart.yaml", *sorted((CONFIGS / "yolov4").glob("*.yaml")), *CLASSIFIERS]
COCO_TRAIN_IMAGES = 118_287
IMAGENET_TRAIN_IMAGES = 1_281_167
HEADER_FIELDS = ("Command:", "Devices:", "Hours:", "Expected:", "Sources:", "Learning rate:")

each_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def recipe(name: str, folder: str = "yolov4") -> Config:
    return load_config(CONFIGS / folder / f"{name}.yaml")


def header(path: Path) -> str:
    lines = path.read_text("utf-8").splitlines()
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


def test_the_recipes_asked_for_are_there() -> None:
    names = {path.stem for path in RECIPES}
    assert names >= {"quickstart", "yolov4", "yolov4-silu", "yolov4-darknet", "yolov4-tiny", "bccd"}
    assert names >= {"yolov4-csp", "yolov4x-mish", "yolov4-tiny-3l"}
    names = {"imagenet", "omega", "zoo", "tinyimagenet10", "randaugment"}
    assert {path.stem for path in CLASSIFIERS} == names


@each_recipe
def test_recipe_loads_and_leaves_the_weights_their_variants(path: Path) -> None:
    config = load_config(path)
    tree = read_tree(path)
    assert not {"topdown_kernel", "stride2_padding", "bn_eps"} & set(tree["model"])
    assert config.weight is None
    assert config.save_dir is None
    assert (config.jit_level, config.ms_amp_level, config.device_target) == ("auto", "auto", "auto")


@each_recipe
def test_header_says_what_it_must(path: Path) -> None:
    config = load_config(path)
    text = header(path)
    assert [field for field in HEADER_FIELDS if f"# {field}" not in text] == []
    devices, images = map(int, re.search(r"# Devices: +(\d+) x (\d+) images", text).groups())
    assert images == config.train.per_batch_size
    assert devices == (8 if path.stem in ("yolov4", "yolov4-silu", "imagenet", "zoo") else 1)
    accumulated = re.search(r"(\d+) times accumulated", text)
    assert config.train.accumulate == (int(accumulated.group(1)) if accumulated else 1)


@each_recipe
def test_every_key_of_a_recipe_is_written_once_in_its_file(path: Path) -> None:
    keys: list[str] = []

    def collect(node: yaml.Node, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                keys.append(f"{prefix}{key.value}")
                collect(value, f"{prefix}{key.value}.")

    collect(yaml.compose(path.read_text("utf-8")), "")
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("name", ["yolov4", "yolov4-silu"])
def test_mindyolo_step_is_its_momentum_with_loss_scale_64(name: str) -> None:
    config = recipe(name)
    weight, velocity, ours, our_velocity = 0.7, 0.0, 0.7, 0.0
    for gradient in (3.0, -1.0, 0.5):  # mindyolo: gradient divided by 64, decay not
        velocity = 0.9 * velocity + gradient / 64 + 0.0005 * weight
        weight -= 0.012 * velocity
        our_velocity = (
            config.optimizer.momentum * our_velocity
            + gradient
            + config.optimizer.weight_decay * ours
        )
        ours -= config.optimizer.lr * our_velocity
    assert ours == pytest.approx(weight, rel=1e-12)
    assert config.optimizer.lr == pytest.approx(1.875e-4, rel=1e-12)
    assert config.optimizer.weight_decay == pytest.approx(0.032, rel=1e-12)


@pytest.mark.parametrize("name", ["yolov4", "yolov4-silu"])
def test_mindyolo_schedule(name: str) -> None:
    config = recipe(name)
    steps_per_epoch = COCO_TRAIN_IMAGES // (8 * config.train.per_batch_size)
    assert steps_per_epoch == 924
    rates = (
        learning_rates(config.optimizer, config.schedule, steps_per_epoch, config.train.epochs) * 64
    )
    published = {  # optimizer step -> learning rate as mindyolo prints it (0.012 at the top)
        1: 6.494e-7,
        924: 0.0006,
        9240: 0.006,
        18479: 0.0119993506,
        18480: 0.0118847117,
        19404: 0.0118729365,
        160 * 924: 0.006,
        319 * 924: 2.891e-7,
    }
    assert {step: rates[step] for step in published} == pytest.approx(published, rel=2e-4)
    assert len(rates) == 320 * 924


def test_mindyolo_augmentation_and_loss() -> None:
    config = recipe("yolov4")
    augment = config.data.augment
    assert (augment.mosaic, augment.mosaic_prob, augment.mixup_prob, augment.mixup_beta) == (
        "canvas",
        1.0,
        0.1,
        8.0,
    )
    assert (augment.translate, augment.scale, augment.degrees, augment.shear) == (
        0.1,
        0.9,
        0.0,
        0.0,
    )
    assert (augment.hsv, augment.hue, augment.saturation, augment.value) == (
        "gains",
        0.015,
        0.7,
        0.4,
    )
    assert (augment.flip_prob, config.data.max_truths, config.data.img_size) == (0.5, 160, 608)
    assert 5.0 <= config.loss.box_gain <= 10.0
    assert config.train.ema.decay == 0.0
    assert config.model.architecture == "yolov4"
    silu = recipe("yolov4-silu")
    assert silu.model.architecture == "yolov4-silu"
    assert (silu.data, silu.loss, silu.optimizer, silu.schedule, silu.train) == (
        *(config.data, config.loss, config.optimizer, config.schedule, config.train),
    )


@pytest.mark.parametrize(
    ("name", "lr", "momentum", "iterations", "first_milestone", "second_milestone"),
    [
        ("yolov4-darknet", 0.0013, 0.949, 500_500, 400_000, 450_000),
        ("yolov4-tiny", 0.00261, 0.9, 2_000_200, 1_600_000, 1_800_000),
        ("yolov4-csp", 0.001, 0.949, 500_500, 400_000, 450_000),
        ("yolov4x-mish", 0.001, 0.949, 500_500, 400_000, 450_000),
        ("yolov4-tiny-3l", 0.00261, 0.9, 500_200, 400_000, 450_000),
    ],
)
def test_darknet_schedule(
    name: str,
    lr: float,
    momentum: float,
    iterations: int,
    first_milestone: int,
    second_milestone: int,
) -> None:
    config = recipe(name)
    assert config.train.per_batch_size * config.train.accumulate == 64
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (momentum, 5e-4)
    steps_per_epoch = COCO_TRAIN_IMAGES // 64
    assert config.train.max_steps == iterations
    assert 0 <= steps_per_epoch * config.train.epochs - iterations < steps_per_epoch
    rates = learning_rates(config.optimizer, config.schedule, steps_per_epoch, config.train.epochs)
    expected = {
        1: lr * 1e-12,
        100: lr * 1e-4,
        500: lr / 16,
        1000: lr,
        first_milestone - 1: lr,
        first_milestone: lr / 10,
        second_milestone: lr / 100,
    }
    assert {step: rates[step] for step in expected} == pytest.approx(expected, rel=1e-9)


def test_darknet_augmentation_loss_and_validation() -> None:
    config = recipe("yolov4-darknet")
    augment = config.data.augment
    assert (augment.mosaic, augment.mosaic_prob, augment.jitter) == ("darknet", 0.5, 0.3)
    assert (augment.hsv, augment.hue, augment.saturation, augment.value) == (
        "darknet",
        0.1,
        1.5,
        1.5,
    )
    assert (config.loss.anchor_threshold, config.loss.ignore_class_threshold) == (0.213, 0.25)
    assert (config.evaluate.nms, config.evaluate.iou_thres, config.data.resize) == (
        "diou",
        0.6,
        "stretch",
    )
    tiny = recipe("yolov4-tiny")
    assert (tiny.data.augment.mosaic, tiny.loss.anchor_threshold, tiny.data.img_size) == (
        "none",
        1.0,
        416,
    )


@pytest.mark.parametrize(("name", "size"), [("yolov4-csp", 512), ("yolov4x-mish", 640)])
def test_scaled_yolov4_differs_from_yolov4_as_its_cfg_does(name: str, size: int) -> None:
    config = recipe(name)
    data = config.data
    assert (config.model.architecture, data.img_size, data.resize) == (name, size, "letterbox")
    assert (data.augment.mosaic, data.augment.jitter) == ("darknet", 0.1)
    assert (config.loss.anchor_threshold, config.train.ema.decay) == (0.2, 0.9998)
    loss = config.loss
    assert (loss.gradient, loss.iou_normalizer, loss.max_delta) == ("darknet", 0.05, 5.0)
    assert (loss.obj_balance, loss.objectness_smooth) == ((4.0, 1.0, 0.4), True)
    assert config.model.objectness_prior == 0.5
    three = recipe("yolov4-tiny-3l")
    assert (three.data.img_size, three.data.augment.mosaic, three.loss.anchor_threshold) == (
        *(608, "none", 1.0),
    )


def test_fine_tuning_starts_from_whole_networks_and_leaves_the_anchors_to_the_weights() -> None:
    config = recipe("finetune")
    tree = read_tree(CONFIGS / "yolov4/finetune.yaml")
    assert (config.model.width, config.model.depth) == (1.0, 1.0)
    assert not {"anchors_wh_px", "anchor_masks"} & set(tree["model"])
    data = config.data
    assert (data.root, data.train, data.val, data.test, data.names) == (None,) * 5
    assert config.train.per_batch_size * config.train.accumulate == config.train.global_batch


def test_the_model_zoo_page_names_every_recipe_and_its_rates() -> None:
    page = (CONFIGS / "yolov4" / "README.md").read_text("utf-8")
    darknets = ("yolov4-darknet", "yolov4-tiny", "yolov4-csp", "yolov4x-mish", "yolov4-tiny-3l")
    for name in ("yolov4", "yolov4-silu", *darknets, "bccd", "finetune"):
        assert f"[{name}.yaml]({name}.yaml)" in page
    silu = "--config ./configs/yolov4/yolov4-silu.yaml --device_target Ascend"
    commands = [
        f"python train.py {silu} --epochs 320",
        "msrun --worker_num=8 --local_worker_num=8 --bind_core=True --log_dir=./yolov4_log"
        f" python train.py {silu} --is_parallel True --epochs 320",
        f"python test.py {silu} --iou_thres 0.6 --weight /PATH/TO/WEIGHT.ckpt",
    ]
    assert [command for command in commands if command not in page.splitlines()] == []


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_a_classifier_reads_imagenets_layout(path: Path) -> None:
    config = load_config(path)
    assert config.model.task == "classify"
    assert (config.data.format, config.data.train, config.data.val) == ("imagenet", "train", "val")
    assert config.data.augment.flip_prob == 0.5
    assert config.optimizer.decay_on == ("all" if path.stem == "imagenet" else "conv")


def test_the_default_classifier_recipe_is_the_gpu_counterparts() -> None:
    config = recipe("imagenet", "cspdarknet53")
    data, optimizer = config.data, config.optimizer
    assert (data.img_size, data.resize, round(data.img_size / data.crop_fraction)) == (
        224,
        "crop",
        256,
    )
    assert [mean / 255 for mean in data.mean] == pytest.approx([0.485, 0.456, 0.406])
    assert [std / 255 for std in data.std] == pytest.approx([0.229, 0.224, 0.225])
    assert (data.classify.area, data.classify.mix, data.classify.color_jitter) == (
        (0.08, 1.0),
        "none",
        (0, 0, 0),
    )
    assert data.classify.ratio == pytest.approx((3 / 4, 4 / 3), abs=1e-6)
    assert (optimizer.kind, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        "sgd",
        0.1,
        0.9,
        1e-4,
    )
    assert (config.train.per_batch_size, config.train.epochs, config.train.ema.decay) == (
        64,
        120,
        0.0,
    )
    assert (config.loss.label_smoothing, config.model.bn_momentum) == (0.0, 0.9)
    rates = learning_rates(optimizer, config.schedule, 10, 300)[::10]
    assert rates == pytest.approx([0.1 * 0.1 ** (epoch // 30) for epoch in range(300)], rel=1e-9)


def test_the_zoos_recipe() -> None:
    config = recipe("zoo", "cspdarknet53")
    rates = learning_rates(config.optimizer, config.schedule, 100, config.train.epochs)
    assert (rates[0], rates[250], rates[500]) == pytest.approx((0.0, 0.05, 0.1))
    assert rates[500 + 14500 // 2] == pytest.approx(0.05)
    assert (config.data.resize, config.data.classify.color_jitter) == (
        "stretch_crop",
        (0.4, 0.4, 0.4),
    )
    assert (config.loss.label_smoothing, config.optimizer.weight_decay) == (0.1, 1e-4)


def test_darknets_classifier_recipe() -> None:
    config = recipe("omega", "cspdarknet53")
    steps = IMAGENET_TRAIN_IMAGES // 128
    assert config.train.per_batch_size * config.train.accumulate == 128
    assert 0 <= steps * config.train.epochs - config.train.max_steps < steps
    rates = learning_rates(config.optimizer, config.schedule, steps, config.train.epochs)
    assert rates[500] == pytest.approx(0.1 / 16)
    assert rates[600_000] == pytest.approx(0.1 * 0.5**4, rel=5e-3)
    assert rates[1_199_999] < 1e-9
    data = config.data
    assert (data.img_size, data.crop_fraction, data.mean, data.std) == (
        256,
        1.0,
        (0, 0, 0),
        (255, 255, 255),
    )
    assert (data.classify.crop, data.classify.short_side_px, data.classify.mix) == (
        "darknet",
        (128, 448),
        "both",
    )
    assert (data.augment.degrees, data.augment.hsv, data.augment.hue) == (7.0, "darknet", 0.1)
    assert (data.augment.saturation, data.augment.value, data.classify.aspect) == pytest.approx(
        (4 / 3,) * 3
    )
    assert (config.loss.label_smoothing, config.optimizer.weight_decay) == (0.1, 5e-4)


@pytest.mark.parametrize("form", ["voc", "coco", "yolo"])
def test_the_recipe_for_any_small_set_takes_a_data_section_alone(tmp_path: Path, form: str) -> None:
    data = {"format": form, "root": "photos", "train": "a", "val": "b", "names": ["cup"]}
    mine = tmp_path / "mine.yaml"
    base = str(CONFIGS / "yolov4" / "small.yaml")
    mine.write_text(yaml.safe_dump({"__BASE__": base, "data": data}))

    config = load_config(mine)
    assert {key: getattr(config.data, key) for key in data} == data
    assert config.data.test is None
    assert config.model.anchors_wh_px == "auto"
    assert config.train.fit_schedule
    assert config.train.max_minutes == 57
    augment = config.data.augment
    assert (augment.flip_prob, augment.flip_vertical_prob) == (0.5, 0.0)


def test_the_tiny_recipe_of_bccd_is_that_of_bccd_but_for_network_and_suppression() -> None:
    changed = read_tree(CONFIGS / "yolov4/bccd-tiny-3l.yaml")
    base = read_tree(CONFIGS / "yolov4/bccd.yaml")
    assert {key for key in base if changed[key] != base[key]} == {"model", "evaluate"}
    nms = {"nms": "soft_linear", "iou_thres": "0.5"}
    assert changed["evaluate"] == {**base["evaluate"], **nms}


def test_the_small_classifier_can_start_the_small_detector() -> None:
    classifier, detector = recipe("tinyimagenet10", "cspdarknet53").model, recipe("bccd").model
    assert (classifier.width, classifier.depth) == (detector.width, detector.depth) == (0.25, 0.33)


def test_the_classifier_page_names_every_recipe_and_what_others_reached() -> None:
    page = (CONFIGS / "cspdarknet53" / "README.md").read_text("utf-8")
    assert [path.name for path in CLASSIFIERS if f"[{path.name}]({path.name})" not in page] == []
    assert [
        figure for figure in ("76.644", "1049", "148", "78.54", "78.7") if figure not in page
    ] == []
    assert "python train.py --batch-size 64 --epochs 120 --data-path /path/to/imagenet" in page
