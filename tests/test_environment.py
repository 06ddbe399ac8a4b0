"""What is set before MindSpore loads."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mindyolo_v4 import environment


@pytest.fixture
def clean(monkeypatch):
    """Let `prepare` meet an environment in which nothing is set, and forget what it did before."""
    environment._prepare_once.cache_clear()
    others = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "LD_PRELOAD")
    for name in (*environment._DEFAULTS, *others):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)
    yield monkeypatch
    environment._prepare_once.cache_clear()


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
    assert environment.prepare() == notes  # a second call says the same


@pytest.mark.parametrize(("version", "warns"), [((2, 10), True), ((2, 8), False)])
def test_mindspore_before_us_is_a_warning_where_that_costs_speed(clean, version, warns):
    clean.setattr(environment, "mindspore_version", lambda: version)
    clean.setattr(environment, "has_avx512", lambda: True)
    clean.setitem(sys.modules, "mindspore", object())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        environment.prepare()
        environment.prepare()
    assert [str(one.message)[:38] for one in caught] == (
        ["MindSpore was imported before mindyolo"] if warns else []
    )


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
        ("1", [0, 1], ["/bin/msrun", "--worker_num", "2", "--local_worker_num", "2"], [1]),
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


WORKER = (
    "import os; from mindyolo_v4 import environment; notes = environment.prepare(); "
    "print(sorted(os.sched_getaffinity(0)), notes)"
)
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


def test_a_bound_process_counts_its_cores_once(monkeypatch):
    cores = {0: set(range(6)), os.getppid(): set(range(48))}  # by process, 0: this one
    monkeypatch.setattr(os, "sched_getaffinity", cores.get)
    assert environment.cores_of_process(8) == 6
    cores[0] = cores[os.getppid()]
    assert environment.cores_of_process(8) == 6
    assert environment.cores_of_process(16) == 3
    assert environment.cores_of_process(64) == 0


def test_without_the_launcher_the_cores_are_shared(monkeypatch):
    def affinity(process):
        if process:
            raise ProcessLookupError
        return set(range(48))

    monkeypatch.setattr(os, "sched_getaffinity", affinity)
    assert environment.cores_of_process(8) == 6


START = """
import os, sys
from mindyolo_v4 import environment
print("started", flush=True)
notes = environment.prepare(restart=True)
mapped = "libjemalloc" in open("/proc/self/maps").read()
is_same = os.getppid() == int(sys.argv[1])
print(mapped, os.environ.get("LD_PRELOAD", ""), sys.argv[1:], is_same, sys.flags.utf8_mode)
print(*notes)
"""


def jemalloc() -> Path:
    package = Path(importlib.util.find_spec("mindspore").origin)
    return package.with_name("lib") / "libjemalloc.so.2"  # MindSpore 2.7 and 2.8 have it


@pytest.fixture
def restart(clean, tmp_path):
    """Return a function that runs START with some variables, and what it printed."""
    script = tmp_path / "start.py"
    script.write_text(START)
    clean.delenv(environment.NO_RESTART, raising=False)
    clean.setenv("ONEDNN_MAX_CPU_ISA", "ALL")  # no note on AVX-512, on any processor
    command = [sys.executable, "-X", "utf8", script, str(os.getpid()), "a b", "--x"]

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **changes}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True)

    return run


def test_starts_again_once_with_the_librarys_allocator(restart):
    done = restart()
    first, *_, last, notes = done.stdout.splitlines()
    has_one = jemalloc().exists()
    assert done.stdout.count(first) == (2 if has_one else 1)
    library = jemalloc() if has_one else ""
    assert last == f"{has_one} {library} ['{os.getpid()}', 'a b', '--x'] True 1"
    assert ("memory comes from MindSpore's jemalloc" in notes) == has_one
    assert done.stderr.count("starting again with MindSpore's memory allocator") == int(has_one)


@pytest.mark.parametrize("variable", ["LD_PRELOAD", environment.NO_RESTART])
def test_a_user_can_prevent_the_second_start(restart, variable):
    done = restart(**{variable: "" if variable == "LD_PRELOAD" else "1"})
    assert done.stdout.splitlines() == [
        "started",
        f"False  ['{os.getpid()}', 'a b', '--x'] True 1",
        "",
    ]
    assert done.stderr == ""


def test_no_second_start_under_a_debugger(clean):
    clean.setattr(environment.sys, "gettrace", lambda: print)
    clean.setattr(environment.os, "execve", lambda *_: pytest.fail("started again"))
    environment.prepare(restart=True)
    assert "LD_PRELOAD" not in os.environ


def test_has_avx512_reads_the_flags(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("flags : fpu avx2 avx512f avx512bw\n")
    assert environment.has_avx512(file)
    file.write_text("flags : fpu avx2\n")
    assert not environment.has_avx512(file)
    assert not environment.has_avx512(tmp_path / "absent")


def test_loads_nothing_heavy():
    code = (
        "import os, sys; before = dict(os.environ); import mindyolo_v4.environment; "
        "print(sorted({'mindspore', 'cv2', 'numpy'} & set(sys.modules)), os.environ == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_public_names_come_on_first_use():
    code = (
        "import os, sys; os.environ.pop('GLOG_v', None); import mindyolo_v4; "
        "assert not {'mindspore', 'numpy', 'yaml'} & set(sys.modules); "
        "from mindyolo_v4 import load_config; assert 'mindspore' not in sys.modules; "
        "print(load_config().train.epochs, os.environ['GLOG_v'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["300", "3"]
    with pytest.raises(ImportError, match="nonsense"):
        from mindyolo_v4 import nonsense  # noqa: F401
