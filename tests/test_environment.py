"""What is set before MindSpore loads."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindyolo_v4 import environment


@pytest.fixture
def clean(monkeypatch):
    for name in (*environment._DEFAULTS, "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_defaults_are_set_and_the_users_kept(clean):
    clean.setenv("GLOG_v", "1")
    clean.setattr(environment, "mindspore_version", lambda: (2, 8))
    assert environment.prepare() == ()
    assert os.environ["GLOG_v"] == "1"  # noqa: SIM112 - MindSpore spells it so
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ


@pytest.mark.parametrize(
    ("version", "avx512", "users", "expected"),
    [
        ((2, 9), True, None, "AVX2"),
        ((2, 10), True, None, "AVX2"),
        ((2, 10), True, "ALL", "ALL"),
        ((2, 10), False, None, None),
        ((2, 8), True, None, None),
    ],
)
def test_instruction_set(clean, version, avx512, users, expected):
    clean.setattr(environment, "mindspore_version", lambda: version)
    clean.setattr(environment, "has_avx512", lambda: avx512)
    if users:
        clean.setenv("ONEDNN_MAX_CPU_ISA", users)
    notes = environment.prepare()
    assert os.environ.get("ONEDNN_MAX_CPU_ISA") == expected
    assert bool(notes) == (expected == "AVX2")


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_either_of_the_users_variables_is_left_alone(clean, name):
    clean.setattr(environment, "mindspore_version", lambda: (2, 10))
    clean.setattr(environment, "has_avx512", lambda: True)
    clean.setenv(name, "AVX512_CORE")
    assert environment.prepare() == ()
    assert {one for one in os.environ if one.endswith("_MAX_CPU_ISA")} == {name}


@pytest.mark.parametrize(
    ("number", "cores", "launcher", "expected"),
    [
        ("0", [0, 1], ["python", "/bin/msrun", "--worker_num=2", "--local_worker_num=2"], [0]),
        (
            "1",
            [0, 1],
            ["python", "/bin/msrun", "--worker_num", "2", "--local_worker_num", "2"],
            [1],
        ),
        ("2", [3, 5, 8, 9, 11, 12, 40], ["msrun", "--local_worker_num=3"], [11, 12, 40]),
        ("0", [3, 5, 8, 9, 11, 12, 40], ["msrun", "--local_worker_num=3"], [3, 5]),
        ("1", [0, 1], ["msrun", "--local_worker_num=4"], [0, 1]),
        ("1", [0, 1], ["bash"], [0, 1]),
        ("", [0, 1], ["msrun", "--local_worker_num=2"], [0, 1]),
        ("2", [0, 1], ["msrun", "--local_worker_num=2"], [0, 1]),
    ],
)
def test_workers_divide_the_cores(number, cores, launcher, expected):
    assert environment.cores_of_worker(number, cores, launcher) == expected


WORKER = "import os; from mindyolo_v4 import environment; print(sorted(os.sched_getaffinity(0)), environment.notes())"
LAUNCHER = """
import os, subprocess, sys
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as MindSpore does when msrun loads it
sys.exit(subprocess.call([sys.executable, "-c", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    "changes", [{}, {"OMP_NUM_THREADS": "2"}, {"MS_ROLE": "MS_SCHED"}, {"DEVICE_ID": "7"}]
)
def test_a_worker_takes_its_cores_unless_the_user_has_decided(clean, changes):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    clean.delenv("OMP_NUM_THREADS", raising=False)
    variables = {**os.environ, "MS_ROLE": "MS_WORKER", "DEVICE_ID": "1", **changes}
    command = [sys.executable, "-c", LAUNCHER, WORKER, "--local_worker_num=2"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    expected = cores if changes else cores[len(cores) // 2 :]
    assert done.stdout.startswith(str(expected))
    assert ("this worker keeps to" in done.stdout) == (not changes)


START = """
import os, sys
from mindyolo_v4 import environment
print("started", flush=True)
environment.start_again_with_jemalloc()
mapped = "libjemalloc" in open("/proc/self/maps").read()
print(mapped, os.environ.get("LD_PRELOAD", ""), sys.argv[1:], os.getppid() == int(sys.argv[1]), sys.flags.utf8_mode)
print(*environment.notes())
"""


def test_starts_again_once_with_the_librarys_allocator(clean, tmp_path):
    script = tmp_path / "start.py"
    script.write_text(START)
    clean.delenv("LD_PRELOAD", raising=False)
    command = [sys.executable, "-X", "utf8", script, str(os.getpid()), "a b", "--x"]
    library = (
        Path(importlib.util.find_spec("mindspore").origin).with_name("lib") / "libjemalloc.so.2"
    )
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    first, *_, last, notes = done.stdout.splitlines()
    found = library.exists()  # MindSpore 2.7 and 2.8 bring it along
    assert done.stdout.count(first) == (2 if found else 1)
    assert last == f"{found} {library if found else ''} ['{os.getpid()}', 'a b', '--x'] True 1"
    assert ("memory comes from MindSpore's jemalloc" in notes) == found
    users = subprocess.run(
        command, env={**variables, "LD_PRELOAD": ""}, capture_output=True, text=True, check=True
    )
    assert users.stdout.splitlines() == [
        "started",
        f"False  ['{os.getpid()}', 'a b', '--x'] True 1",
        "",
    ]


def test_has_avx512_reads_the_flags(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("flags : fpu avx2 avx512f avx512bw\n")
    assert environment.has_avx512(file)
    file.write_text("flags : fpu avx2\n")
    assert not environment.has_avx512(file)
    assert not environment.has_avx512(tmp_path / "absent")


def test_loads_nothing_heavy():
    code = "import sys, mindyolo_v4.environment; print(sorted({'mindspore', 'cv2', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
