"""What options of mindyolo, darknet and ultralytics are answered with."""

import re

import pytest

from mindyolo_v4.commands.train import main
from mindyolo_v4.config.command_line import FLAT_NAMES, build_parser, parse
from mindyolo_v4.config.peers import PEERS, find_counterpart
from mindyolo_v4.config.recipe import field_paths, load_config
from mindyolo_v4.errors import UserError

OWN_OPTIONS = {"config", "resume", "no_draw", "save_txt", "stride", "format", "backend"}
EVERY = [(project, name) for project, table in PEERS.items() for name in table]


def message(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(build_parser("train.py", "Train."), words)
    return str(caught.value)


@pytest.mark.parametrize(("project", "name"), EVERY)
def test_what_stands_here_exists(project: str, name: str) -> None:
    ours, note = PEERS[project][name]
    key, _, value = ours.partition(" ")
    keys = field_paths()
    sections = {path.rpartition(".")[0] for path in keys}
    assert key in keys or key in sections or key.removeprefix("--") in OWN_OPTIONS or not ours
    assert ours or note
    if value and not ours.startswith("--"):
        needed = {"data.img_size": "64"} if key.startswith("data.") else {}
        load_config(None, [*needed.items(), (key, value)])
    named = re.findall(r"\b(?:data|train|model|loss|optimizer|schedule|evaluate)\.[\w.]+", note)
    assert [key for key in named if key.rstrip(".") not in {*keys, *sections}] == []


@pytest.mark.parametrize(
    "name", sorted({name for _, name in EVERY} - {*FLAT_NAMES, *field_paths()})
)
def test_every_unknown_option_is_answered_with_ours(name: str) -> None:
    counterpart = find_counterpart(name)
    assert counterpart is not None
    if "." in name:
        with pytest.raises(UserError) as caught:
            load_config(None, parse(build_parser("train.py", ""), [f"--{name}", "1"]).overrides)
        assert str(caught.value).startswith(f"{name}: unknown key in command line, of mindyolo")
        assert counterpart.names[:1] == () or counterpart.names[0] in str(caught.value)
    else:
        assert message(f"--{name}", "1").startswith(f"--{name}: unknown option, of ")


@pytest.mark.parametrize(
    ("word", "option", "answer"),
    [
        ("--freeze", "--freeze", "--train.freeze"),
        ("--imgsz=640", "--imgsz", "--img_size"),
        ("--close-mosaic", "--close_mosaic", "--data.augment.mosaic_off_epochs"),
        ("--conf", "--conf", "--conf_thres"),
        ("--cos-lr", "--cos_lr", "--schedule.kind cosine"),
        ("-thresh", "-thresh", "--conf_thres"),
        ("--mosaic", "--mosaic", "--data.augment.mosaic darknet | --data.augment.mosaic_prob"),
        ("--hyp", "--hyp", "--config"),
    ],
)
def test_answers(word: str, option: str, answer: str) -> None:
    text = message(word, "1")
    assert text.startswith(f"{option}: unknown option, of ")
    assert text.endswith(f"(expected {answer})")


def test_short_names_are_only_those_of_the_command() -> None:
    with pytest.raises(UserError, match=r"expected --evaluate\.conf_thres"):
        parse(build_parser("check_data", "", ("data_dir",)), ["--conf", "0.3"])


def test_what_has_no_counterpart_says_why() -> None:
    text = message("--nms_time_limit", "20")
    assert text == "--nms_time_limit: unknown option, of mindyolo: NMS has no time limit"


@pytest.mark.parametrize("form", ["batch=16", "lr0=0.01"])
def test_assignments_are_answered_too(form: str) -> None:
    with pytest.raises(UserError, match=r"unknown key in command line, of .*ultralytics"):
        main([form])
