"""The page in a headless Chromium, driven by harness.html in a frame of a phone's width."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from mindyolo_v4.serve.app import create_app
from mindyolo_v4.serve.options import ServeOptions
from tests.support.service import StandIn, running, scene, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    app = create_app(StandIn(), ServeOptions())
    reports: list[dict[str, Any]] = []

    @app.get("/harness")
    async def harness() -> HTMLResponse:
        return HTMLResponse(Path(__file__).with_name("harness.html").read_text("utf-8"))

    @app.get("/picture.png")
    async def picture() -> Response:
        return Response(scene(), media_type="image/png")

    @app.post("/report")
    async def report(request: Request) -> None:
        reports.append(json.loads(await request.body()))

    with running(app) as port:
        words = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--remote-debugging-port=0"]
        with subprocess.Popen(
            [*words, f"http://127.0.0.1:{port}/harness"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as browser:
            try:
                wait_until(lambda: reports, 60)
            finally:
                browser.terminate()
    shown = reports[0]
    assert shown["errors"] == []
    assert shown["dropped"] == ["cat0.90", "dog0.30"]
    assert shown["label"] == "Picture with cat 0.90, dog 0.30"
    assert shown["confident"] == ["cat0.90"]
    assert shown["redrawn"]
    assert [one["class_name"] for one in shown["json"]["detections"]] == ["cat"]
    assert shown["marked"]
    assert shown["unnamed"] == []
    assert shown["width"] <= 360
    assert [one["class_name"] for one in shown["copied"]["detections"]] == ["cat", "dog"]
    assert shown["refused"] == "image: cannot be read as an image"
    assert shown["pasted"] == ["cat0.90", "dog0.30"]
    assert shown["camera"] == ["Start camera", 2]
