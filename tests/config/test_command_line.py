"""The field's flat names, dotted overrides and one-line errors."""

import sys
from pathlib import Path

import pytest

from mindyolo_v4.config.command_line import Arguments, Parser, build_parser, command_for, parse
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from tests.support.launch import REPOSITORY


def parse_train(line: str) -> Arguments:
    parser = build_parser("train.py", "Train.")
    parser.add_argument("--resume", nargs="?", const="auto")
    parser.add_argument("--exist_ok", action="store_true")
    return parse(parser, line.split())


@pytest.mark.parametrize(
    ("started", "commands"),
    [
        (REPOSITORY / "train.py", ("python train.py", "python -m convert.mindspore_zoo")),
        (
            REPOSITORY / "mindyolo_v4/tools/check_data.py",
            ("python train.py", "python -m convert.mindspore_zoo"),
        ),
        (
            REPOSITORY / "mindyolo_v4/__main__.py",
            ("mindyolo-v4 train", "mindyolo-v4 convert mindspore-zoo"),
        ),
        ("/usr/bin/mindyolo-v4", ("mindyolo-v4 train", "mindyolo-v4 convert mindspore-zoo")),
    ],
)
def test_a_command_is_named_as_the_user_starts_commands(
    started: str | Path, commands: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(started)])
    names = ("train", "convert mindspore_zoo")
    assert tuple(command_for(name) for name in names) == commands
    is_console = commands[0].startswith("mindyolo-v4")
    tool = "mindyolo-v4 check-data" if is_console else "python -m mindyolo_v4.tools.check_data"
    assert command_for("check-data") == tool


def test_flat_names_with_dash_and_underscore() -> None:
    arguments = parse_train(
        "--config c.yaml --device-target CPU --epochs=3 --batch-size 4 --data-path /d "
        "--img-size 64 --is_parallel True"
    )
    assert arguments.config == "c.yaml"
    config = load_config(None, arguments.overrides)
    assert (config.device_target, config.train.epochs, config.train.per_batch_size) == ("CPU", 3, 4)
    assert (config.data.root, config.data.img_size, config.is_parallel) == ("/d", 64, "True")


def test_dotted_overrides_in_both_forms() -> None:
    arguments = parse_train(
        "--optimizer.momentum 0.937 train.ema.decay=0.5 --optimizer.lr=1e-3 seed=9"
    )
    config = load_config(None, arguments.overrides)
    assert (config.optimizer.momentum, config.train.ema.decay, config.optimizer.lr) == (
        0.937,
        0.5,
        1e-3,
    )
    assert config.seed == 9


def test_dashes_inside_values_stay() -> None:
    assert parse_train("--save_dir my-run --weight=a-b.ckpt").overrides == (
        ("save_dir", "my-run"),
        ("weight", "a-b.ckpt"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "--epochs 10 --train.epochs 20",
        "--train.epochs 10 --epochs 20",
        "--epochs 10 epochs=20",
        "train.epochs=10 --epochs=20",
    ],
)
def test_the_last_of_several_values_counts(line: str) -> None:
    assert load_config(None, parse_train(line).overrides).train.epochs == 20


def test_of_two_names_of_a_key_the_last_one_counts() -> None:
    assert dict(parse_train("--data_path b --data_dir a").overrides) == {"data.root": "a"}
    assert dict(parse_train("--batch-size 4 --per_batch_size 2").overrides) == {
        "train.per_batch_size": "2"
    }


def test_a_switch_needs_no_value() -> None:
    assert parse_train("--tta --epochs 3").overrides == (
        ("evaluate.tta", "True"),
        ("train.epochs", "3"),
    )
    assert parse_train("--single-cls seed=4").overrides == (
        ("data.single_cls", "True"),
        ("seed", "4"),
    )
    assert parse_train("--tta False --single_cls=no").overrides == (
        ("evaluate.tta", "False"),
        ("data.single_cls", "no"),
    )
    assert parse_train("--tta").overrides == (("evaluate.tta", "True"),)


def test_a_value_may_be_negative() -> None:
    assert parse_train("--seed -1 --optimizer.lr -2").overrides == (
        ("seed", "-1"),
        ("optimizer.lr", "-2"),
    )


def test_a_parser_of_few_options_reads_dashes_and_no_abbreviations() -> None:
    parser = Parser("make-scenes", "Make scenes.")
    parser.add_argument("--img_size", type=int)
    assert parser.parse_args(["--img-size", "128"]).img_size == 128
    with pytest.raises(UserError, match="unrecognized arguments: --img 128"):
        parser.parse_args(["--img", "128"])


def test_resume_with_and_without_path() -> None:
    assert parse_train("--resume --save_dir x").options["resume"] == "auto"
    assert parse_train("--resume last.ckpt").options["resume"] == "last.ckpt"
    assert parse_train("--resume optimizer.lr=1").options["resume"] == "auto"
    assert parse_train("--save_dir a=b").overrides == (("save_dir", "a=b"),)


def test_a_default_loses_against_the_users_own() -> None:
    arguments = parse_train("--conf_thres 0.5").with_defaults({"evaluate.conf_thres": "0.25"})
    assert load_config(None, arguments.overrides).evaluate.conf_thres == 0.5


def test_every_name_of_an_option_is_known() -> None:
    parser = build_parser("predict.py", "Predict.")
    parser.add_argument("--source", "--image_path")
    assert parse(parser, ["--image-path", "x.jpg"]).options["source"] == "x.jpg"
    with pytest.raises(SystemExit) as caught:
        parse_train("--help")
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("--epoch 3", ["--epoch: unknown option", "--epochs"]),
        ("--optimizer.lr", ["--optimizer.lr", "no value"]),
        ("--epochs", ["--epochs: has no value"]),
        ("--data.val --epochs=3", ["--data.val: has no value"]),
        ("--optimizer.momentum --epochs 3", ["--optimizer.momentum: has no value"]),
        ("--data_dir --epochs 3", ["--data_dir: has no value"]),
        ("stray", ["stray"]),
    ],
)
def test_wrong_options_are_named(line: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_train(line)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "line", ["--compile_cache off", "--compile-cache=off", "compile_cache=off"]
)
def test_the_removed_compile_cache_is_accepted_as_off(line: str) -> None:
    assert load_config(None, parse_train(line).overrides) == Config()


@pytest.mark.parametrize("line", ["--compile_cache on", "--compile-cache=on", "compile_cache=on"])
def test_the_removed_compile_cache_is_refused_as_on(line: str) -> None:
    with pytest.raises(UserError, match=r"compile_cache: was removed .*can be deleted"):
        load_config(None, parse_train(line).overrides)


def test_help_does_not_name_what_was_removed() -> None:
    assert "compile_cache" not in build_parser("train.py", "Train.").format_help()


def test_run_command_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: object) -> int:
        raise UserError("a.json:3", "not a box", got=[1, 2], expected="four\nnumbers")

    assert run_command(main, []) == 2
    assert (
        capsys.readouterr().err
        == "error: a.json:3: not a box (got [1, 2], expected four numbers)\n"
    )


def test_run_command_names_the_file_of_an_os_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(lambda _: len((tmp_path / "missing").read_bytes()), []) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/missing: No such file or directory\n"
