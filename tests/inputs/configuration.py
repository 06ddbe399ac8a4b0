"""Cases of tests/test_inputs.py: configuration."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from tests.support.inputs import Case

Write = Callable[[Path], Sequence[object]]


def check(folder: Path, *more: object) -> list[object]:
    """Write a YOLO set of one image, return the command that reads it."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    Image.new("RGB", (64, 48)).save(folder / "images/a.png")
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    place = ["--data_dir", folder, "--data.format", "yolo", "--data.train", "images"]
    return ["check_data", *place, "--data.img_size", 64, *more]


def option(name: str, value: object) -> Write:
    """Give one option."""
    return lambda folder: [*check(folder, "--data.names", "[cat]"), f"--{name}", value]


def recipe(content: str | bytes, **bases: str) -> Write:
    """Give a recipe; `bases` are files beside it."""

    def write(folder: Path) -> Sequence[object]:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "recipe.yaml").write_bytes(data)
        for name, text in bases.items():
            (folder / f"{name}.yaml").write_text(text)
        return [*check(folder), "--config", folder / "recipe.yaml"]

    return write


def names(content: str | bytes, file: str = "data.yaml", *more: object, **others: str) -> Write:
    """Give class names in a file beside the labels."""

    def write(folder: Path) -> Sequence[object]:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / file).write_bytes(data)
        for name, text in others.items():
            (folder / name.replace("_", ".")).write_text(text)
        return check(folder, *more)

    return write


def aliases(start: str, join: str = "[{}]") -> str:
    """Return nested YAML aliases that expand to 10^9 values."""
    lines = [f"a0: &a0 {start}"]
    for level in range(1, 10):
        again = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {join.format(again)}")
    return "\n".join(lines)


def chain(length: int) -> Write:
    """Give recipes of which each builds on the next."""
    bases = {f"b{k}": f"__BASE__: b{k + 1}.yaml\n" for k in range(length)}
    return recipe("__BASE__: b0.yaml\n", **bases, **{f"b{length}": "data: {names: [cat]}\n"})


def diamonds(levels: int) -> Write:
    """Give recipes of which each names the next one twice."""
    bases = {f"b{k}": f"__BASE__: [b{k + 1}.yaml, b{k + 1}.yaml]\n" for k in range(levels)}
    return recipe("__BASE__: b0.yaml\n", **bases, **{f"b{levels}": "data: {names: [cat]}\n"})


NAMES = "Class names"
DARKNET = "classes = 1\ntrain = train.txt\nvalid = val.txt\nnames = data/obj.names\n"
NAME_CASES = [
    Case(NAMES, "yes and no in data.yaml", names("names: [yes, no]\n"), 0, "  0  yes "),
    Case(NAMES, "007 and 12:30", names("names:\n- 007\n- 12:30\n"), 0, "  1  12:30"),
    Case(NAMES, "a date", names("names: [2001-12-14, x]\n"), 0, "2001-12-14"),
    Case(NAMES, "null, ~ and 1e3", names("names: [null, ~, 1e3]\n"), 0, "  0  null "),
    Case(NAMES, "names by number", names("names: {1: off, 0: on}\n"), 0, "  0  on "),
    Case(NAMES, "yes and no as an option",
         lambda folder: [*check(folder), "--data.names", "[yes, no]"], 0, "  0  yes "),
    Case(NAMES, "yes and no in a recipe", recipe("data: {names: [yes, no]}\n"), 0, "  0  yes "),
    Case(NAMES, "numbers that leave one out", names("names: {0: a, 2: b}\n"), 2,
         "{dir}/data.yaml: class ids under names: are not 0, 1, 2, ..."),
    Case(NAMES, "darknet's obj.data", names(DARKNET, "obj.data", "--data.names", "obj.data",
         obj_names="cat\n"), 0, "  0  cat "),
    Case(NAMES, "darknet's obj.data with a comment and a key twice: darknet takes the first",
         names(f"{DARKNET[:-1]}  # mine\nnames = other.names\n", "obj.data", "--data.names",
               "obj.data", obj_names="cat\n"), 0, "  0  cat "),
    Case(NAMES, "darknet's obj.data without its names file",
         names(DARKNET, "obj.data", "--data.names", "obj.data"), 2,
         "{dir}/obj.data: describes a data set for darknet"),
    Case(NAMES, "an escape sequence in a name", names("\x1b[31mcat\n", "classes.txt"), 0,
         "\\x1b[31mcat"),
    Case(NAMES, "one name twice", names("a\nb\na\n", "classes.txt"), 2,
         "{dir}/classes.txt:3: class name occurs twice"),
    Case(NAMES, "an empty line between names", names("a\n\nb\n", "classes.txt"), 2,
         "{dir}/classes.txt:2: empty class name"),
    Case(NAMES, "20,000 names", names("".join(f"c{k}\n" for k in range(20_000)), "classes.txt"),
         0, "19999  c19999"),
    Case(NAMES, "a file that is not UTF-8", names(b"\xff\xfec\0a\0t\0", "classes.txt"), 2,
         "{dir}/classes.txt: not UTF-8 text"),
    Case(NAMES, "lists in the list", names("names: [[a], [b]]\n"), 2, "not a list of class names"),
    Case(NAMES, "aliases that expand to 10^9 names", names(aliases("[x, x]") + "\nnames: *a9\n"), 2,
         "{dir}/data.yaml: its aliases expand to more than 200000 values"),
    Case(NAMES, "the number of a name twice", names("names:\n  0: a\n  0: b\n"), 2,
         "{dir}/data.yaml: not readable as YAML: the key 0 occurs twice, again in line 3"),
    Case(NAMES, "data.yaml without names", names("nc: 3\n"), 2, "has no list of class names"),
    Case(NAMES, "no names at all", lambda folder: check(folder), 2, "data.names: missing"),
]  # fmt: skip

RECIPE = "Recipes"
RECIPE_CASES = [
    Case(RECIPE, "a key that does not exist", recipe("model: {widht: 1}\n"), 2,
         "model.widht: unknown key in {dir}/recipe.yaml (expected model.width)"),
    Case(RECIPE, "!!int abc", recipe("seed: !!int abc\n"), 2, "{dir}/recipe.yaml: not readable"),
    Case(RECIPE, "!!bool maybe", recipe("seed: !!bool maybe\n"), 2, "{dir}/recipe.yaml: not read"),
    Case(RECIPE, "!!timestamp of no date", recipe("seed: !!timestamp 2001-13-45\n"), 2,
         "{dir}/recipe.yaml: not readable as YAML"),
    Case(RECIPE, "a Python object", recipe("seed: !!python/object/apply:os.getcwd []\n"), 2,
         "{dir}/recipe.yaml: not readable as YAML"),
    Case(RECIPE, "a date that does not exist", recipe("seed: 2001-13-45\n"), 2,
         "seed: not a whole number (got 2001-13-45"),
    Case(RECIPE, "an integer of 5000 digits", recipe(f"seed: {'9' * 5000}\n"), 2, "seed: not a wh"),
    Case(RECIPE, "lists nested 100,000 deep", recipe("seed: " + "[" * 100_000), 2,
         "{dir}/recipe.yaml: not readable as YAML: nested too deeply"),
    Case(RECIPE, "a bracket that is not closed", recipe("seed: [1\n"), 2, "{dir}/recipe.yaml: not"),
    Case(RECIPE, "bytes that are not text", recipe(b"\xff\xfe\0"), 2,
         "recipe.yaml: not UTF-8 text"),
    Case(RECIPE, "a section twice", recipe("data: {}\nseed: 1\ndata: {names: [cat]}\n"), 2,
         "{dir}/recipe.yaml: not readable as YAML: the key data occurs twice, again in line 3"),
    Case(RECIPE, "a control character", recipe("seed: \x01\n"), 2, "{dir}/recipe.yaml: not read"),
    Case(RECIPE, "a list", recipe("- seed\n"), 2, "not a mapping of keys to values"),
    Case(RECIPE, "a section that is a number", recipe("data: 3\n"), 2, "data: is a section"),
    Case(RECIPE, "merge keys that expand to 10^9 keys", recipe(
         aliases("{x: 1}", "{{<<: [{}]}}") + "\n"), 2, "{dir}/recipe.yaml"),
    Case(RECIPE, "an alias of itself", recipe("data: {names: &a [*a]}\n"), 2, "recipe.yaml"),
    Case(RECIPE, "a recipe that is not there",
         lambda folder: [*check(folder), "--config", folder / "gone.yaml"], 2, "no such config"),
    Case(RECIPE, "a folder", lambda folder: [*check(folder), "--config", folder], 2, "no such"),
    Case(RECIPE, "__BASE__ that leads back", recipe("__BASE__: recipe.yaml\n"), 2,
         "{dir}/recipe.yaml: __BASE__ leads back to itself"),
    Case(RECIPE, "__BASE__: {a: b}", recipe("__BASE__: {a: b}\n"), 2, "does not name files"),
    Case(RECIPE, "__BASE__: 3", recipe("__BASE__: 3\n"), 2, "no such configuration file"),
    Case(RECIPE, "__BASE__ that nests aliases", recipe(aliases("[x]") + "\n__BASE__: *a9\n"), 2,
         "{dir}/recipe.yaml: its aliases expand"),
    Case(RECIPE, "30 recipes of which each names the next one twice", diamonds(30), 0, "  0  cat"),
    Case(RECIPE, "100 recipes in a row", chain(100), 2, "more than 50 files follow one another"),
]  # fmt: skip

OPTION = "Options"
OPTION_CASES = [
    Case(OPTION, "seed=2001-13-45", lambda folder: [*check(folder), "seed=2001-13-45"], 2,
         "seed: not a whole number"),
    Case(OPTION, "--train.pictures -1", option("train.pictures", "-1"), 2,
         "train.pictures: out of range (got -1, expected >= 0 and <= 1000)"),
    Case(OPTION, "--train.pictures 1001", option("train.pictures", "1001"), 2,
         "train.pictures: out of range (got 1001, expected >= 0 and <= 1000)"),
    Case(OPTION, "--train.pictures 1.5", option("train.pictures", "1.5"), 2,
         "train.pictures: not a whole number (got 1.5"),
    Case(OPTION, "--train.pictures all", option("train.pictures", "all"), 2,
         "train.pictures: not a whole number (got all"),
    Case(OPTION, "--train.pictures with a list", option("train.pictures", "[1, 2]"), 2,
         "train.pictures: not a whole number"),
    Case(OPTION, "--train.picture 3", option("train.picture", "3"), 2,
         "train.picture: unknown key"),
    Case(OPTION, "--train.val_loss maybe", option("train.val_loss", "maybe"), 2,
         "train.val_loss: not true or false (got maybe"),
    Case(OPTION, "--train.epochs 1e308", option("train.epochs", "1e308"), 2, "train.epochs: out"),
    Case(OPTION, "--train.epochs 3.5", option("train.epochs", "3.5"), 2, "not a whole number"),
    Case(OPTION, "--train.epochs 1e9", option("train.epochs", "1e9"), 2, "train.epochs: out of ra"),
    Case(OPTION, "--data.img_size 32e9", option("data.img_size", "32e9"), 2, "out of range"),
    Case(OPTION, "--data.img_size nan", option("data.img_size", "nan"), 2, "not a whole number"),
    Case(OPTION, "--data.img_size 100", option("data.img_size", "100"), 2, "not a multiple of 32"),
    Case(OPTION, "--model.width 1e-7", option("model.width", "1e-7"), 2, "model.width: out of ran"),
    Case(OPTION, "--model.residual heavy", option("model.residual", "heavy"), 2, "model.residual"),
    Case(OPTION, "--model.residual weighted, for yolov4-tiny",
         lambda folder: [*check(folder), "model.architecture=yolov4-tiny",
                         "model.residual=weighted"], 2,
         "model.residual: yolov4-tiny has no residual blocks (got weighted, expected plain)"),
    Case(OPTION, "--model.norm cmbn with model.sync_bn",
         lambda folder: [*check(folder), "model.norm=cmbn", "model.sync_bn=True"], 2,
         "model.sync_bn: has no meaning with model.norm: cmbn (got True, expected False)"),
    Case(OPTION, "--model.norm cbn with model.cpu_fused=on",
         lambda folder: [*check(folder), "model.norm=cbn", "model.cpu_fused=on"], 2,
         "model.cpu_fused: there are no fused operators for model.norm: cbn (got on, expected"),
    Case(OPTION, "--model.norm cmbn with train.recompute",
         lambda folder: [*check(folder), "model.norm=cmbn", "train.recompute=[backbone]"], 2,
         "train.recompute: would count batch statistics twice with model.norm: cmbn"),
    Case(OPTION, "--model.norm group", option("model.norm", "group"), 2, "model.norm"),
    Case(OPTION, "--model.dropblock.prob 1", option("model.dropblock.prob", "1"), 2,
         "model.dropblock.prob: out of range (got 1.0, expected >= 0 and <= 0.9)"),
    Case(OPTION, "--model.dropblock.size 0", option("model.dropblock.size", "0"), 2,
         "model.dropblock.size: out of range"),
    Case(OPTION, "--model.dropblock.ramp_steps -1", option("model.dropblock.ramp_steps", "-1"),
         2, "model.dropblock.ramp_steps: out of range"),
    Case(OPTION, "--model.dropblock.ramp cosine", option("model.dropblock.ramp", "cosine"), 2,
         "model.dropblock.ramp"),
    Case(OPTION, "--model.norm cmbn with --ms_amp_level O3",
         lambda folder: [*check(folder), "model.norm=cmbn", "ms_amp_level=O3"], 2,
         "ms_amp_level: model.norm: cmbn needs float32 statistics (got O3, expected O2)"),
    Case(OPTION, "--model.dropblock.prob 0.1 with train.recompute",
         lambda folder: [*check(folder), "model.dropblock.prob=0.1",
                         "train.recompute=[backbone]"], 2,
         "train.recompute: would draw other masks for the gradient with model.dropblock"),
    Case(OPTION, "--optimizer.lr inf", option("optimizer.lr", "inf"), 2, "not a number"),
    Case(OPTION, "--optimizer.nesterov maybe", option("optimizer.nesterov", "maybe"), 2,
         "not true or false"),
    Case(OPTION, "--data.resize crop, for a detector", option("data.resize", "crop"), 2,
         "data.resize: would cut boxes off, and is for classifiers"),
    Case(OPTION, "--data.std '[0, 1, 1]'", option("data.std", "[0, 1, 1]"), 2, "must be positive"),
    Case(OPTION, "--data.mean '[1, [2], 3]'", option("data.mean", "[1, [2], 3]"), 2, "data.mean"),
    Case(OPTION, "--data.class_balance 1.5", option("data.class_balance", "1.5"), 2,
         "data.class_balance: out of range (got 1.5, expected >= 0 and <= 1)"),
    Case(OPTION, "--data.augment.cutmix_prob 2", option("data.augment.cutmix_prob", "2"), 2,
         "data.augment.cutmix_prob: out of range (got 2.0, expected >= 0 and <= 1)"),
    Case(OPTION, "--data.augment.copy_paste_prob -1", option("data.augment.copy_paste_prob", "-1"),
         2, "data.augment.copy_paste_prob: out of range"),
    Case(OPTION, "--data.augment.erase_prob 1.01", option("data.augment.erase_prob", "1.01"), 2,
         "data.augment.erase_prob: out of range"),
    Case(OPTION, "--data.classify.randaugment_magnitude 30",
         option("data.classify.randaugment_magnitude", "30"), 2,
         "data.classify.randaugment_magnitude: out of range (got 30.0, expected >= 0 and <= 10)"),
    Case(OPTION, "--model.anchors_wh_px automatic", option("model.anchors_wh_px", "automatic"), 2,
         "model.anchors_wh_px: not one of its choices (got automatic, expected auto"),
    Case(OPTION, "--model.anchors_wh_px auto, for a classifier",
         lambda folder: [*check(folder, "--model.architecture", "cspdarknet53"),
                         "--model.anchors_wh_px", "auto"], 2,
         "model.anchors_wh_px: a classifier has no anchors"),
    Case(OPTION, "--data.names '[a, a]'", option("data.names", "[a, a]"), 2, "occurs twice"),
    Case(OPTION, "--data.train '{images: x}'", option("data.train", "{images: x}"), 2,
         "data.train.annotations: missing"),
    Case(OPTION, "--data.train '{annotations: 1, images: [x]}'",
         option("data.train", "{annotations: 1, images: [x]}"), 2, "data.train"),
    Case(OPTION, "--data_dir ~nobody", option("data_dir", "~nobody-has-this-name"), 2,
         "data.root: folder not found"),
    Case(OPTION, "--data_dir of 5000 letters", option("data_dir", "x" * 5000), 2, "too long"),
    Case(OPTION, "--train.profile_steps '[5, 3]'", option("train.profile_steps", "[5, 3]"), 2,
         "train.profile_steps: no range of steps"),
    Case(OPTION, "--train.profile_steps '[0, 3]'", option("train.profile_steps", "[0, 3]"), 2,
         "train.profile_steps: no range of steps"),
    Case(OPTION, "--train.profile_steps 3", option("train.profile_steps", "3"), 2,
         "train.profile_steps: needs 2 values"),
    Case(OPTION, "--train.deterministic maybe", option("train.deterministic", "maybe"), 2,
         "not true or false"),
    Case(OPTION, "--train.fit_schedule True, without a limit",
         option("train.fit_schedule", "True"), 2, "train.fit_schedule: needs train.max_minutes"),
    Case(OPTION, "--evaluate.nms best", option("evaluate.nms", "best"), 2,
         "evaluate.nms: not one of its choices (got best, expected iou | diou | soft_linear |"),
    Case(OPTION, "--evaluate.soft_sigma 0", option("evaluate.soft_sigma", "0"), 2,
         "evaluate.soft_sigma: out of range (got 0.0, expected > 0 and <= 100)"),
    Case(OPTION, "--evaluate.tta_scales '[]'", option("evaluate.tta_scales", "[]"), 2,
         "evaluate.tta_scales: needs a list of scales"),
    Case(OPTION, "--evaluate.tta_scales '[1, 5]'", option("evaluate.tta_scales", "[1, 5]"), 2,
         "evaluate.tta_scales: out of range (got 5.0, expected >= 0.25 and <= 4)"),
    Case(OPTION, "--evaluate.tile_overlap 0.95", option("evaluate.tile_overlap", "0.95"), 2,
         "evaluate.tile_overlap: out of range (got 0.95, expected >= 0 and <= 0.9)"),
    Case(OPTION, "--train.sat_lr 0", option("train.sat_lr", "0"), 2,
         "train.sat_lr: out of range (got 0.0, expected > 0"),
    Case(OPTION, "--train.sat_prob 2", option("train.sat_prob", "2"), 2,
         "train.sat_prob: out of range"),
    Case(OPTION, "--train.sat_prob 0.5, for a classifier",
         lambda folder: [*check(folder), "--data.names", "[cat]", "--train.sat_prob", "0.5",
                         "--model.architecture", "cspdarknet53"], 2,
         "train.sat_prob: is for detectors, and this network is a classifier (got 0.5, expected"),
    Case(OPTION, "--loss.class_weights '[1]', for a classifier",
         lambda folder: [*check(folder), "--data.names", "[cat]", "--loss.class_weights", "[1]",
                         "--model.architecture", "cspdarknet53"], 2,
         "loss.class_weights: is for detectors, and this network is a classifier (got (1.0,))"),
    Case(OPTION, "--data.classify.mix cutmix, for a detector",
         option("data.classify.mix", "cutmix"), 2,
         "data.classify.mix: is for classifiers, and this network is a detector (got cutmix,"),
    Case(OPTION, "--train.sat_lr -1", option("train.sat_lr", "-1"), 2, "train.sat_lr: out of"),
    Case(OPTION, "--train.random_sizes '[]'", option("train.random_sizes", "[]"), 2,
         "train.random_sizes: needs a list of sizes"),
    Case(OPTION, "--train.random_sizes '[64, 100]'", option("train.random_sizes", "[64, 100]"), 2,
         "train.random_sizes: has a size that no detector takes"),
    Case(OPTION, "--train.random_sizes '[64, 64]'", option("train.random_sizes", "[64, 64]"), 2,
         "train.random_sizes: names a size twice"),
    Case(OPTION, "--train.growing_sizes '[96, 64]'", option("train.growing_sizes", "[96, 64]"), 2,
         "train.growing_sizes: not in ascending order"),
    Case(OPTION, "--train.growing_sizes '[64, 100]'", option("train.growing_sizes", "[64, 100]"), 2,
         "train.growing_sizes: has a size that no detector takes"),
    Case(OPTION, "train.growing_sizes with train.random_sizes", recipe(
         "data: {names: [cat]}\ntrain: {random_sizes: [64, 96], growing_sizes: [64, 96]}\n"), 2,
         "train.growing_sizes: excludes train.random_sizes (got (64, 96), expected null)"),
    Case(OPTION, "train.growing_sizes with train.fit_schedule", recipe(
         "data: {names: [cat]}\n"
         "train: {growing_sizes: [64, 96], max_minutes: 5, fit_schedule: true}\n"), 2,
         "train.fit_schedule: cannot tell from the first epoch how long those of larger sizes"),
    Case(OPTION, "--loss.iou_normalizer 0.2, with autograd", option("loss.iou_normalizer", "0.2"),
         2, "loss.iou_normalizer: has no effect without gradient: darknet, see box_gain (got 0.2"),
    Case(OPTION, "--loss.max_delta 5, with autograd", option("loss.max_delta", "5"), 2,
         "loss.max_delta: no step to clip (got 5.0, expected gradient: darknet, box: not mse)"),
    Case(OPTION, "--loss.focal_gamma 0.5", option("loss.focal_gamma", "0.5"), 2,
         "loss.focal_gamma: out of range (got 0.5, expected >= 1 and <= 10)"),
    Case(OPTION, "--loss.focal_gamma 3, with darknet's gradient", recipe(
         "data: {names: [cat]}\nloss: {gradient: darknet, focal_gamma: 3}\n"), 2,
         "loss.focal_gamma: gradient: darknet has one value (got 3.0, expected 2)"),
    Case(OPTION, "--loss.class_weights '[1, -1]'", option("loss.class_weights", "[1, -1]"), 2,
         "loss.class_weights: out of range (got -1.0, expected >= 0)"),
    Case(OPTION, "IoU as target of darknet's smooth objectness", recipe(
         "data: {names: [cat]}\n"
         "loss: {gradient: darknet, objectness_smooth: true, objectness_target: iou}\n"), 2,
         "loss.objectness_target: has no effect with gradient: darknet and objectness_smooth"),
    Case(OPTION, "--loss.gradient exact", option("loss.gradient", "exact"), 2,
         "loss.gradient: not one of its choices (got exact, expected autograd | darknet)"),
    Case(OPTION, "--model.class_prior 0.5", option("model.class_prior", "0.5"), 2,
         "model.class_prior: not one of its choices (got 0.5, expected auto)"),
    Case(OPTION, "--train.epoch 3", option("train.epoch", "3"), 2, "expected train.epochs"),
]  # fmt: skip

CASES: list[Case] = [*NAME_CASES, *RECIPE_CASES, *OPTION_CASES]
