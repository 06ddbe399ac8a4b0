"""Pickles that attack: nothing runs, nothing is changed, memory stays bounded, one line is said."""

import copyreg
import mmap
import os
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

from mindyolo_v4.errors import UserError
from mindyolo_v4.weights import torch_pickle
from mindyolo_v4.weights.torch_file import read_tensors
from tests.weights.torch_files import MAGIC, Call, Name, write_legacy, write_zip

WEIGHT = np.ones(4, np.float32)


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    return str(caught.value)


def zipped(tmp_path, content: bytes):
    return write_zip(
        tmp_path / "a.pth", {"w": WEIGHT}, records={"data.pkl": b"\x80\x02" + content + b"."}
    )


ATTACKS = {
    "reduce": b"cos\nsystem\nX%s\x85R",
    "posix": b"cposix\nsystem\nX%s\x85R",
    "inst": b"(X%sios\nsystem\n",
    "obj": b"(cos\nsystem\nX%so",
    "eval": b"c__builtin__\neval\nX%s\x85R",
    "getattr": b"cbuiltins\ngetattr\ncos\nenviron\nX%s\x86R",
    "stack global": b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93X%s\x85R",
    "subprocess": b"csubprocess\nPopen\nX%s\x85R",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_code_does_not_run(tmp_path, attack):
    mark = tmp_path / "ran"
    command = f"touch {mark}".encode()
    content = attack.replace(b"%s", struct.pack("<I", len(command)) + command)
    legacy = tmp_path / "b.pth"
    legacy.write_bytes(b"\x80\x02" + content + b".")
    for path in (zipped(tmp_path, content), legacy):
        message = refusal(path)
        runs_code = "would run code when loaded" in message and "state dict only" in message
        assert runs_code or "which PyTorch does not write" in message
    assert not mark.exists()


def test_the_attack_would_work_elsewhere(tmp_path):
    mark = tmp_path / "ran"
    command = f"touch {mark}".encode()
    pickle.loads(b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(command)) + command + b"\x85R.")
    assert mark.exists()


def test_whole_models_are_told_apart(tmp_path):
    def model(state):
        return Call(
            Name("models", "Darknet"),
            (),
            {"_modules": Call(Name("torch.nn.modules.conv", "Conv2d"), ())},
        )

    for write in (write_zip, write_legacy):
        message = refusal(write(tmp_path / "a.pth", {"w": WEIGHT}, model))
        assert (
            "holds a whole model" in message
            and "model.state_dict()" in message
            and "models.Darknet" in message
        )
    identity = b"(X\x06\x00\x00\x00moduleNNNtQ"
    assert "holds a whole model" in refusal(zipped(tmp_path, identity))


def test_names_are_shown_without_control_characters(tmp_path):
    message = refusal(zipped(tmp_path, b"cos\n\x1b[2Jsystem" + b"x" * 1000 + b"\n"))
    assert "\x1b" not in message and len(message) < 500


def test_unread_types_are_named(tmp_path):
    message = refusal(zipped(tmp_path, b"ctorch\nComplexFloatStorage\n"))
    assert "torch.ComplexFloatStorage" in message and "BFloat16" in message
    message = refusal(zipped(tmp_path, b"ctorch._utils\n_rebuild_sparse_tensor\n"))
    assert "_rebuild_sparse_tensor" in message and "dense" in message


@pytest.mark.parametrize(
    "content",
    [
        b"ctorch\nFloatStorage\n)R",  # a call of what cannot be called
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch\nSize\n((tt\x85R",  # a tuple in a tuple in torch.Size
        b"]}s",
        b"0",
        b"h\x05",
        b"R",
        b"X\x04\x00\x00\x00\xff\xfe\xfd\xfc",
        b"K\x01Q",
        b"Pstorage\n",
        b"(X\x07\x00\x00\x00storageNNNNtQ",
        b"\x82\x01",  # an extension code
        b"\x97",  # a buffer from outside
        b"\x8a\xff" + b"\x01" * 10,
        b"\x8e" + struct.pack("<Q", 1 << 40),  # a terabyte of bytes
        b"\x96" + struct.pack("<Q", 1 << 40),
        b"\x95" + struct.pack("<Q", 1 << 40),
        b"}" * (torch_pickle.MAX_INSTRUCTIONS + 2),
        b"}X\x01\x00\x00\x00aNsX\x01\x00\x00\x00aNs",  # one key twice
    ],
)
def test_broken_pickles(tmp_path, content):
    assert "is damaged or cut short: its pickle" in refusal(zipped(tmp_path, content))


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_the_memo_stays_small(tmp_path, put):
    assert "memo entry 2147483647" in refusal(zipped(tmp_path, b"N" + put))  # it would take 34 GB


def test_a_list_is_copied_once(tmp_path):
    """A million instructions could otherwise make 300 000 copies of one long list of pairs."""
    pair = b"X\x01\x00\x00\x00aN\x86"
    twice = b"]q\x00" + pair + b"accollections\nOrderedDict\nq\x01(h\x01h\x00\x85Rh\x01h\x00\x85Rt"
    message = refusal(zipped(tmp_path, twice))
    assert "holds no state dict (got tuple" in message
    with (
        (tmp_path / "a.pth").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        start = data.find(b"\x80\x02]")
        copies, _, _ = torch_pickle.read_pickle(tmp_path / "a.pth", data, start, len(data))
    assert copies == ({"a": None}, {})


@pytest.mark.parametrize(
    "content",
    [
        b")" + b"q\x00h\x00\x86" * 60,  # a tuple with 2^60 empty ones, by 60 memo entries
        b")" + b"\x85" * 200_000,  # deeper than the C stack
    ],
)
def test_a_key_that_cannot_be_hashed_is_left_out(tmp_path, content):
    assert "holds no state dict (got {}" in refusal(zipped(tmp_path, b"}" + content + b"Ns"))


def test_a_dict_is_not_copied(tmp_path):
    """A pickle of 350 KB that copies a dict of 10,000 keys 49,000 times."""
    keys = b"".join(b"X\x05\x00\x00\x00%05dN" % key for key in range(10_000))
    copies = b"uccollections\nOrderedDict\nq\x01" + b"h\x01h\x00\x85R" * 49_000
    start = time.monotonic()
    assert "holds no state dict" in refusal(zipped(tmp_path, b"}q\x00(" + keys + copies))
    assert time.monotonic() - start < 10


def test_deep_lists_are_no_trouble(tmp_path):
    deep = b"]" * 100_000 + b"a" * 99_999
    assert "holds no state dict (got list" in refusal(zipped(tmp_path, deep))


def test_a_dict_that_holds_itself(tmp_path):
    assert "holds no state dict" in refusal(zipped(tmp_path, b"}q\x00X\x05\x00\x00\x00modelh\x00s"))


STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04%st"
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (STORAGE % b"" + b"QK\x00K\x04\x85)\x89NtR", "1 sizes and 0 strides"),
        (
            STORAGE % b"" + b"QK\x00(" + b"K\x01" * 33 + b"t(" + b"K\x01" * 33 + b"ttR",
            "at most 32 numbers",
        ),
        (
            STORAGE % b"" + b"QK\x00K\x04\x85K\x01\x85\x89N}X\x03\x00\x00\x00negI01\nstR",
            "negated or conjugated",
        ),
        (
            STORAGE % b"(X\x01\x00\x00\x00vK\x00K\x04t" + b"QK\x00K\x04\x85K\x01\x85tR",
            "view of a storage",
        ),
    ],
)
def test_tensors_of_other_kinds(tmp_path, content, words):
    assert words in refusal(zipped(tmp_path, b"ctorch._utils\n_rebuild_tensor_v2\n(" + content))


def test_extension_registry_is_not_used(tmp_path):
    """A code that this process has resolved before reaches its object past every check of names."""
    copyreg.add_extension("os", "getcwd", 201)
    try:
        assert pickle.loads(b"\x80\x02\x82\xc9.") is os.getcwd
        assert "instruction EXT1" in refusal(zipped(tmp_path, b"\x82\xc9)R"))
    finally:
        copyreg.remove_extension("os", "getcwd", 201)


def test_a_pickle_of_64_mb_is_not_read(tmp_path):
    big = bytes(torch_pickle.MAX_PICKLE_BYTES + 1)
    assert "data.pkl is too long" in refusal(
        write_zip(tmp_path / "a.pth", {}, records={"data.pkl": big})
    )


def test_directory_that_lies(tmp_path):
    path = write_zip(tmp_path / "a.pth", {"w": WEIGHT})
    content = path.read_bytes()

    def changed(entry: bytes, at: int, value: bytes):
        name = content.rindex(entry)  # in the directory, 46 bytes behind the start of its record
        new = bytearray(content)
        new[name - 30 : name - 26] = bytes(4)  # no checksum
        new[name - 46 + at : name - 46 + at + len(value)] = value
        path.write_bytes(new)
        return path

    assert "behind its place" in refusal(
        changed(b"archive/data.pkl", 20, struct.pack("<II", 10, 10))
    )
    message = refusal(changed(b"archive/data/0", 20, struct.pack("<II", 1 << 30, 1 << 30)))
    assert "archive/data/0 reaches behind the end" in message and str(len(content)) in message
    assert "is not where the directory" in refusal(
        changed(b"archive/data/0", 42, struct.pack("<I", 5))
    )


def test_compressed_entries_are_never_unpacked(tmp_path):
    path = write_zip(
        tmp_path / "a.pth", {"w": np.zeros(1 << 20, np.float32)}, compression=zipfile.ZIP_DEFLATED
    )
    assert "is compressed" in refusal(path)


def test_directory_of_a_bomb_is_not_read(tmp_path):
    path = write_zip(tmp_path / "a.pth", {"w": WEIGHT})
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end:end] = bytes(17 << 20)  # a directory of 17 MB
    place = content.rindex(b"PK\x05\x06")
    size = struct.unpack_from("<I", content, place + 12)[0]
    content[place + 12 : place + 16] = struct.pack("<I", size + (17 << 20))
    path.write_bytes(content)
    assert "bytes in one piece" in refusal(path)


def test_magic_number_is_compared(tmp_path):
    path = write_legacy(tmp_path / "a.pth", {"w": WEIGHT}, magic=MAGIC + 1)
    assert "is a pickle but no PyTorch file" in refusal(path)


def test_lines_without_end(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"\x80\x02c" + b"x" * (17 << 20) + b"\n")
    assert "a line without end" in refusal(path)
