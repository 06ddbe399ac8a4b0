"""What the readers share: image headers against the decoder, names files, checks of the section."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import read_image
from mindyolo_v4.data.readers.class_names import names_beside_labels, read_names
from mindyolo_v4.data.readers.faults import Faults, Location
from mindyolo_v4.data.readers.ground_truth import build_records
from mindyolo_v4.data.readers.headers import ImageHeader, read_header, read_headers, turn_boxes
from mindyolo_v4.data.readers.raw import ListedImage, RawBox
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.errors import UserError

LIMIT = 256.0  # megapixels


@pytest.mark.parametrize(
    ("suffix", "orientation"),
    [
        *((suffix, n) for suffix in ("jpg", "png", "webp") for n in range(1, 9)),
        ("bmp", 1),
        ("tiff", 3),
    ],
)
def test_header_is_the_size_that_is_decoded(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (24, 16)).save(path, exif=exif)
    header = read_header(path, LIMIT)
    assert read_image(path).shape[:2] == (header.height, header.width)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_turned_boxes_lie_where_the_pixels_are(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[2:5, 10:21] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif, lossless=True)
    box = turn_boxes(np.array([[10.0, 2, 21, 5]]), read_header(path, LIMIT))[0]
    rows, columns = np.nonzero(read_image(path)[..., 0])
    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (24, 16)).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert read_header(path, LIMIT) == ImageHeader(24, 16, 1)


def test_bad_headers_are_counted_and_the_first_named(tmp_path: Path) -> None:
    good, empty, text, cut = (tmp_path / f"{name}.jpg" for name in ("good", "empty", "text", "cut"))
    Image.new("RGB", (24, 16)).save(good)
    empty.write_bytes(b"")
    text.write_text("no image")
    cut.write_bytes(good.read_bytes()[:20])
    paths = [good, empty, text, cut, tmp_path / "gone.jpg", tmp_path]
    with pytest.raises(
        UserError,
        match=r"list:2: image has zero bytes; 4 more bad images follow \(got .*empty\.jpg",
    ):
        read_headers(paths, [Location("list", n) for n in range(1, 7)], LIMIT, Faults())
    for path, problem in (
        (text, "not a readable"),
        (cut, "image"),
        (paths[4], "missing"),
        (tmp_path, "not a readable"),
    ):
        with pytest.raises(OSError, match=problem):
            read_header(path, LIMIT)


def test_order_holds_over_many_chunks(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.bmp" for n in range(150)]
    for n, path in enumerate(paths):
        Image.new("L", (n + 1, 2)).save(path)
    headers = read_headers(paths, [Location(str(path)) for path in paths], LIMIT, Faults())
    assert [header.width for header in headers if header is not None] == list(range(1, 151))


def test_names_files(tmp_path: Path) -> None:
    text = tmp_path / "coco.names"
    text.write_bytes("\ufeffone\r\ntwo words\r\n\r\n".encode())
    assert read_names(text) == names_beside_labels(tmp_path) == ("one", "two words")
    (tmp_path / "other.names").write_text("x")
    with pytest.raises(UserError, match="holds several"):
        names_beside_labels(tmp_path)
    (tmp_path / "data.yaml").write_text("train: x\nnames: {1: b, 0: a}\n")
    assert names_beside_labels(tmp_path) == ("a", "b")
    with pytest.raises(UserError, match=r"data\.names: missing, and .* holds no data\.yaml"):
        names_beside_labels(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.txt", "a\n\nb\n", r"n\.txt:2: empty class name"),
        ("n.txt", "a\nb\na\n", r"n\.txt:3: class name occurs twice"),
        ("n.txt", "\n", "holds no class names"),
        ("n.yaml", "names: {0: a, 2: b}", "class ids under names: are not 0, 1, 2"),
        ("n.yaml", "nc: 3", "has no list of class names"),
        ("n.yaml", "names: [", "not readable as YAML"),
    ],
)
def test_malformed_names_file_is_named(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_names(tmp_path / name)


def test_section_errors_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root: missing"):
        read_split(DataConfig(train="x"), "train")
    with pytest.raises(UserError, match=r"data\.root: folder not found"):
        read_split(DataConfig(root=str(tmp_path / "no"), train="x"), "train")
    with pytest.raises(UserError, match=r"data\.val: missing"):
        read_split(DataConfig(root=str(tmp_path), train="x"), "val")
    with pytest.raises(UserError, match=r"data\.train: annotation file not found"):
        read_split(DataConfig(root=str(tmp_path), train="x.json"), "train")
    with pytest.raises(UserError, match=r"data\.names: file not found"):
        read_split(DataConfig(format="yolo", root=str(tmp_path), train="x", names="n.txt"), "train")


def listed(path: Path) -> ListedImage:
    """Write an image."""
    Image.new("RGB", (24, 16)).save(path)
    return ListedImage(path, 1, "labels.txt", Location("list", 1), stated_size=(24, 16))


WARNING = "list:1: image is listed twice, first at list:1"


def test_an_image_with_two_ids_is_refused_and_a_repeated_line_kept(tmp_path: Path) -> None:
    images = [listed(tmp_path / "a.jpg"), listed(tmp_path / "a.jpg")]
    with pytest.raises(UserError, match=r"list:1: image is listed twice, first at list:1"):
        build_records(images, [], Faults(), LIMIT, have_ids=True)
    faults = Faults()
    build_records(images, [], faults, LIMIT)
    assert faults.warnings == [f"{WARNING}; 1 repeated lines are kept as they are"]
    records = build_records([images[0], listed(tmp_path / "b.jpg")], [], Faults(), LIMIT)
    assert [record.path.name for record in records] == ["a.jpg", "b.jpg"]


def test_fractions_among_boxes_in_pixels_are_named(tmp_path: Path) -> None:
    boxes = [RawBox(0, (1, 1, 9, 9), 0, 1), RawBox(0, (0.2, 0.3, 0.8, 0.9), 0, 2, line=7)]
    faults = Faults()
    records = build_records([listed(tmp_path / "a.jpg")], boxes, faults, LIMIT)
    problem = "within 0 to 1, where other boxes are in pixels (got 0.2 0.3 0.8 0.9)"
    assert faults.warnings == [f"labels.txt:7: {problem}"]
    assert len(records[0].boxes_xyxy_px) == 2


@pytest.mark.parametrize("count", [0, 3, 12])
def test_warnings_and_summary_of_both_kinds_of_data_sets(tmp_path: Path, count: int) -> None:
    warnings = tuple(f"warning {number}" for number in range(count))
    image = listed(tmp_path / "a.jpg")
    boxes = [RawBox(0, (1, 1, 9, 9), 0, 1), RawBox(0, (2, 2, 9, 9), 1, 2, ignore=True)]
    records = build_records([image], boxes, Faults(), LIMIT)
    detector = Dataset(records, ("a", "b"), (1, 2), "source", warnings)
    classifier = ClassImages(
        tmp_path, np.array([b"a.jpg"]), np.zeros(1, np.int32), ("a", "b"), "source", warnings
    )
    assert detector.summary() == "source: 1 images, 1 boxes, 2 classes"
    assert classifier.summary() == "source: 1 images, 2 classes"
    for dataset in (detector, classifier):
        assert len(dataset) == 1
        lines = dataset.warning_lines()
        assert lines[:10] == list(warnings[:10])
        assert lines[10:] == (["... and 2 more warnings of source"] if count == 12 else [])
