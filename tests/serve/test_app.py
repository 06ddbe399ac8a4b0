"""What the service answers, in this process and without a network."""

import re
import threading
from collections.abc import Iterator
from importlib import resources
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from mindyolo_v4.data.images import ImageReadError, decode_image
from mindyolo_v4.serve.app import create_app
from mindyolo_v4.serve.options import ServeOptions
from tests.support.service import CONFIG, StandIn, encode, png_of_size, scene, wait_until

JPEG = encode(np.full((80, 120, 3), 90, np.uint8), ".jpg")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(StandIn(), ServeOptions(max_mb=2.0))) as client:
        yield client


def test_the_prediction_of_a_body_and_of_a_form(client: TestClient) -> None:
    cat = {"class_id": 0, "class_name": "cat", "score": 0.9, "box_xyxy_px": [0, 0, 60, 80]}
    dog = {"class_id": 1, "class_name": "dog", "score": 0.3, "box_xyxy_px": [60, 0, 120, 80]}
    content = {"file": "", "width": 120, "height": 80, "detections": [cat, dog]}
    answer = client.post("/predict", content=JPEG)
    assert (answer.status_code, answer.json()) == (200, content)
    assert client.post("/predict?conf=0.9", content=JPEG).json()["detections"] == [cat]
    assert client.post("/predict?conf=0.91", content=JPEG).json()["detections"] == []
    answer = client.post("/predict", files={"any": ("C:\\x\\../a.jpg", JPEG)})
    assert (answer.status_code, answer.json()) == (200, content | {"file": "a.jpg"})


def test_a_drawn_image(client: TestClient) -> None:
    answer = client.post("/predict?format=image&conf=0.5", content=JPEG)
    assert answer.headers["content-type"] == "image/jpeg"
    drawn = decode_image(np.frombuffer(answer.content, np.uint8), "drawn")
    assert drawn.shape == (80, 120, 3)
    assert np.ptp(drawn[40, :70].astype(int)) > 100  # a box ends there
    assert np.ptp(drawn[40, 70:].astype(int)) < 40


def test_a_classifier() -> None:
    client = TestClient(create_app(StandIn("classify"), ServeOptions()))
    top = client.post("/predict?conf=0.9", content=JPEG).json()["top5"]
    assert [(one["class_name"], one["score"]) for one in top] == [("cat", 0.9), ("dog", 0.3)]
    assert client.get("/health").json()["task"] == "classify"


def bomb() -> bytes:
    return png_of_size(30_000, 30_000, rows=300)


HOSTILE = [
    ("an empty body", b"", {}, "cannot be read as an image"),
    ("HTML", b"<!doctype html><title>404</title>", {}, "cannot be read as an image"),
    ("JSON", b'{"image": "..."}', {}, "cannot be read as an image"),
    ("zeros", bytes(100_000), {}, "cannot be read as an image"),
    ("random bytes", np.random.default_rng(0).bytes(100_000), {}, "cannot be read as an image"),
    ("a JPEG cut in half", JPEG[: len(JPEG) // 2], {}, "is cut short or damaged"),
    ("the start of a JPEG", JPEG[:3], {}, "cannot be read as an image"),
    ("a PNG cut in half", scene()[:2000], {}, "is cut short or damaged"),
    ("the start of a PNG", scene()[:8], {}, "is cut short or damaged"),
    ("a PNG of 50,000 x 50,000", png_of_size(50_000, 50_000), {}, "has 2500 megapixels"),
    ("a PNG of 0 x 0", png_of_size(0, 0), {}, ""),
    ("a PNG of 2^31 x 2^31", png_of_size(2**31 - 1, 2**31 - 1), {}, "megapixels"),
    ("a decompression bomb", bomb(), {}, "has 900 megapixels, more than data.max_megapixels, 50"),
    ("a GIF of 65,535 x 65,535", b"GIF89a" + b"\xff" * 4 + bytes(99), {}, ""),
    ("a form without a boundary", JPEG, {"content-type": "multipart/form-data"}, "upload: "),
    (
        "a form without a file",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        {"content-type": "multipart/form-data; boundary=x"},
        "upload: the multipart body has no file",
    ),
    (
        "a form that is not a form",
        JPEG,
        {"content-type": "multipart/form-data; boundary=x"},
        "upload: ",
    ),
    (
        "a form of a charset that decodes nothing",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        {"content-type": "multipart/form-data; boundary=x; charset=undefined"},
        "upload: its charset does not fit",
    ),
    (
        "a file whose name in UTF-7 is half a character",
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="+2AA-.png"\r\n\r\nb\r\n--x--',
        {"content-type": "multipart/form-data; boundary=x; charset=utf-7"},
        "cannot be read as an image",
    ),
]


@pytest.mark.parametrize(
    ("body", "headers", "said"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_hostile_uploads(
    body: bytes, headers: dict[str, str], said: str, client: TestClient
) -> None:
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    text = answer.json()["error"]
    assert said in text
    assert "\n" not in text
    if not headers:  # the command line says the same
        with pytest.raises(ImageReadError, match=re.escape(text)):
            decode_image(
                np.frombuffer(body, np.uint8), "image", max_megapixels=CONFIG.data.max_megapixels
            )
    assert client.post("/predict", content=JPEG).status_code == 200


def test_too_many_bytes(client: TestClient) -> None:
    for files in ({"content": bytes(2_000_001)}, {"files": {"a": ("a.jpg", bytes(2_000_001))}}):
        answer = client.post("/predict", **files)  # type: ignore[arg-type]
        assert answer.status_code == 413
        assert answer.json()["error"] == "upload: has more than --max_mb, 2 MB"
        assert answer.headers["connection"] == "close"
    assert client.post("/predict", content=bytes(2_000_000)).status_code == 400


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("conf=high", "conf: is not a number (got high)"),
        ("conf=nan", "conf: out of range (got nan, expected >= 0.05 and <= 1)"),
        ("conf=0.01", "conf: out of range (got 0.01, expected >= 0.05 and <= 1)"),
        ("conf=2", "conf: out of range (got 2.0, expected >= 0.05 and <= 1)"),
        ("format=xml", "format: unknown (got xml, expected json | image)"),
    ],
)
def test_wrong_parameters(query: str, said: str, client: TestClient) -> None:
    answer = client.post(f"/predict?{query}", content=JPEG)
    assert (answer.status_code, answer.json()) == (400, {"error": said})


def test_an_image_that_jpeg_cannot_hold(client: TestClient) -> None:
    wide = cv2.imencode(".png", np.zeros((1, 70_000), np.uint8))[1].tobytes()
    answer = client.post("/predict?format=image", content=wide)
    assert answer.status_code == 400
    assert answer.json()["error"] == "image: is too large for a drawn JPEG"


def test_other_addresses(client: TestClient) -> None:
    assert client.get("/predict").status_code == 405
    assert client.get("/docs").status_code == 404
    assert client.get("/../../etc/passwd").status_code == 404


def test_openapi_names_what_a_client_may_send_and_get(client: TestClient) -> None:
    predict = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert set(predict["responses"]) == {"200", "400", "408", "413", "503", "default"}
    assert {parameter["name"] for parameter in predict["parameters"]} == {"conf", "format"}


def test_a_full_queue() -> None:
    stand_in = StandIn(delay_s=0.3)
    client = TestClient(create_app(stand_in, ServeOptions(queue=2)))
    answers: list[Any] = []

    def post() -> None:
        answers.append(client.post("/predict", content=JPEG))

    with client:  # one event loop for all threads
        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: "unanswered_requests 2.0" in client.get("/metrics").text)
        refused = client.post("/predict", content=JPEG)
        for thread in threads:
            thread.join()
        assert client.post("/predict", content=JPEG).status_code == 200
    assert refused.status_code == 503
    assert refused.json()["error"] == "the queue is full: 2 requests wait"
    assert refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in answers] == [200, 200]


def test_health_and_metrics() -> None:
    client = TestClient(create_app(StandIn(), ServeOptions()))
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["class_names"] == ["cat", "dog"]
    assert (health["lowest_conf"], health["default_conf"]) == (0.05, 0.25)
    client.post("/predict", content=JPEG)
    client.post("/predict", content=b"")
    text = client.get("/metrics").text
    for line in (
        'mindyolo_v4_requests_total{status="200"} 1.0',
        'mindyolo_v4_requests_total{status="400"} 1.0',
        "mindyolo_v4_request_seconds_count 1.0",
        'mindyolo_v4_batch_images_bucket{le="1.0"} 1.0',
        "mindyolo_v4_unanswered_requests 0.0",
    ):
        assert line in text
    assert re.search(r"^process_resident_memory_bytes [1-9]", text, re.M)


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/")
    page = resources.files("mindyolo_v4.serve").joinpath("page.html").read_text("utf-8")
    assert answer.text == page
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert re.findall(r"""(?:src|href)=["'](?!data:)|url\(|@import|import\(""", page) == []
    assert re.findall(r"//\w+\.\w", page) == []
