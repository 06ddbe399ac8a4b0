"""The page for users of other projects: python -m tests.support.migration > docs/migration.md

The tables are those of mindyolo_v4/config/peers.py, by which unknown options are answered.
"""

from mindyolo_v4.config.peers import DARKNET, MINDYOLO, ULTRALYTICS, Table

INTRODUCTION = """# Coming from mindyolo, darknet or ultralytics

The tables have the options of these projects, and what does the same here: a key of the
configuration, or an option of a command. A key is given as `--train.freeze VALUE`, as
`train.freeze=VALUE` or in a recipe. [configuration.md](configuration.md) has all keys, their
defaults and their short names. An option or key of another project is answered with ours:

```text
error: --lrf: unknown option, of ultralytics (expected --schedule.final_factor)
```

Weights of these projects are converted first: [weights.md](weights.md). This page is
written from `mindyolo_v4/config/peers.py` by
`python -m tests.support.migration > docs/migration.md`."""
MINDYOLO_TEXT = """## mindyolo

Options of mindyolo 0.5, and keys of its YAML files. The same in both projects: `--config`,
`--device_target`, `--is_parallel`, `--ms_mode`, `--ms_amp_level`, `--weight`, `--epochs`,
`--per_batch_size`, `--img_size`, `--conf_thres`, `--iou_thres`, `--seed`, `--save_dir` and
`--image_path`."""
DARKNET_TEXT = """## darknet

Keys of a `.cfg` file and options of AlexeyAB's darknet. `configs/yolov4/yolov4-darknet.yaml` is
`yolov4.cfg` as a recipe. `python -m convert.darknet` reads the `.weights` of a network."""
ULTRALYTICS_TEXT = """## ultralytics

Arguments of `yolo` and of YOLOv5's scripts. The same in both projects: `data`, `single_cls`,
`epochs`, `resume`, `seed`, `split`, `max_det`, `source`, `save_txt`, `save_crop` and, of `export`,
`format`, `int8`, `dynamic`, `nms` and `opset`."""


def page() -> str:
    """Return docs/migration.md."""
    return "\n\n".join(
        (
            INTRODUCTION,
            f"{MINDYOLO_TEXT}\n\n{rows(MINDYOLO, 'mindyolo')}",
            f"{DARKNET_TEXT}\n\n{rows(DARKNET, 'darknet')}",
            f"{ULTRALYTICS_TEXT}\n\n{rows(ULTRALYTICS, 'ultralytics')}",
        )
    )


def rows(table: Table, project: str) -> str:
    """Return one table in Markdown."""
    lines = [f"| {project} | here | |", "|---|---|---|"]
    for name, (ours, note) in table.items():
        here = f"`{ours}`" if ours else "-"
        lines.append(f"| `{name}` | {here} | {note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
