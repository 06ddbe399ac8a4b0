"""Wrong destinations, options and disks: one line, exit status 2, and nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.bad_files import CASES, EVERY, Case, good_file, refused
from tests.weights.foreign import write_mindspore

REPOSITORY = Path(__file__).resolve().parents[2]


@EVERY
def test_destinations(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / f"link{source.suffix}").symlink_to(source)
    for target, complaint in (
        ("no/out.ckpt", "no/out.ckpt: cannot be written (got no such folder)"),
        ("folder.ckpt", "folder.ckpt: cannot be written (got a folder)"),
        (case.name, "is the file to read"),
        (f"link{source.suffix}", "is the file to read"),
        ("out.txt", "out.txt: "),
        ("out", "out: "),
        (f"{case.name}/out.ckpt", "no such folder"),
        (f"{'long' * 80}{Path(case.target).suffix}", "File name too long"),
    ):
        assert complaint in refused(case, source, capfd, target=target)


@EVERY
def test_a_folder_that_cannot_be_written_to(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """/proc takes no new files, from nobody."""
    source = good_file(case, tmp_path)
    line = refused(case, source, capfd, target=f"/proc/out{Path(case.target).suffix}")
    assert line.startswith("/proc/out") and "cannot be written: " in line


@EVERY
def test_sources(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(case, tmp_path / case.name, capfd) == f"{tmp_path / case.name}: no such file"
    (tmp_path / "sub").mkdir()
    assert refused(case, tmp_path / "sub", capfd) == f"{tmp_path / 'sub'}: a folder, not a file"


@EVERY
def test_options(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    names = {"two": "a\nb\n", "double": "a\nb\na\n", "none": "\n", "good": "a\nb\nc\n"}
    for name, text in names.items():
        (tmp_path / f"{name}.names").write_text(text)
    (tmp_path / "binary.names").write_bytes(b"\xff\xfe\x00")
    for options, complaint in (
        (("--arch", "yolov5"), "command line: argument --arch: invalid choice: 'yolov5'"),
        (("--partial", "x"), "command line: argument --partial: invalid int value: 'x'"),
        (("--names", tmp_path / "no.names"), "no.names: no such file"),
        (("--names", tmp_path), f"{tmp_path}: a folder, not a file"),
        (("--names", tmp_path / "double.names"), "class name occurs twice"),
        (("--names", tmp_path / "none.names"), "none.names: holds no class names"),
        (("--names", tmp_path / "binary.names"), "binary.names"),
        (("--wrong", "1"), "command line: unrecognized arguments: --wrong 1"),
        (("--names",), "command line: argument --names: expected one argument"),
    ):
        assert complaint in refused(case, source, capfd, *options)
    keeps_its_card = case.command == "safetensors" or case.target != "out.ckpt"
    if keeps_its_card:
        for option in (
            ("--names", tmp_path / "good.names"),
            ("--arch", "yolov4-tiny"),
            ("--partial", 5),
            ("--cfg", tmp_path / "net.cfg"),
            ("--leaky_slope", 0.2),
            ("--resize", "stretch"),
        ):
            assert refused(case, source, capfd, *option).startswith(
                f"{option[0]}: has no meaning here: "
            )
        return
    line = refused(case, source, capfd, "--names", tmp_path / "two.names")
    assert "2" in line and (
        "3 classes" in line or "another class count" in line or "longer than the network" in line
    )
    wrong = "yolov4-tiny" if case.command != "darknet" else "yolov4"
    line = refused(case, source, capfd, "--arch", wrong)
    assert line.startswith(str(source)) and "another architecture" in line
    if case.command != "darknet":
        for option in ("--partial", "--cfg"):
            line = refused(case, source, capfd, option, 5)
            assert line.startswith(f"{option}: has no meaning for ")


def test_names_for_a_file_without_classes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = {name: value for name, value in CASES["zoo"].tensors().items() if "fc" not in name}
    write_mindspore(tmp_path / "in.ckpt", tensors)
    (tmp_path / "good.names").write_text("a\nb\nc\n")
    line = refused(CASES["zoo"], tmp_path / "in.ckpt", capfd, "--names", tmp_path / "good.names")
    assert line.startswith("--names: wrong count") and "got 3, expected 0 classes" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("convert.darknet", "page.weights", "out.ckpt"),
            "page.weights: holds no weights (got a web page",
        ),
        (("convert.darknet",), "command line: the following arguments are required: SRC, DST"),
        (("convert.inspect", "no.ckpt"), "no.ckpt: no such file"),
    ],
)
def test_as_a_program(arguments: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "page.weights").write_text("<html>")
    command = [sys.executable, "-m", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    lines = [
        line for line in done.stderr.splitlines() if "WARNING" not in line
    ]  # MindSpore's own, at import
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1)
    assert lines[0].startswith(f"error: {complaint}")
    assert [path.name for path in tmp_path.iterdir()] == ["page.weights"]


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """The size of files is limited to less than the checkpoint's."""
    good_file(CASES["darknet"], tmp_path)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from mindyolo_v4.weights.darknet import main;"
        "from mindyolo_v4.runtime.command import run_command;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "sys.exit(run_command(main))"
    )
    command = [sys.executable, "-c", code, "in.weights", "out.ckpt"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert lines[0].startswith("error: out.ckpt: cannot be written: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.cfg", "in.weights"]
