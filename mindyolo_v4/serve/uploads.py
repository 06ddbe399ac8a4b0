"""The body of a request -> the bytes of one image, within limits of size and time."""

import asyncio
from pathlib import PurePosixPath

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

_FIELDS = 8  # of a multipart upload, besides its file


class Refusal(Exception):  # noqa: N818 - an answer, not an error of the service
    """A request that is not answered with a prediction."""

    def __init__(self, status: int, text: str):
        self.status = status
        super().__init__(text)


class _Bounded:
    """The incoming messages of a request, of which at most `limit` bytes are kept.

    What lies beyond is read and dropped: a client that still sends would not see the answer.
    """

    def __init__(self, receive: Receive, limit: int):
        self._receive = receive
        self._limit = limit
        self.size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self.size += len(message.get("body", b""))
        return {**message, "body": b""} if self.size > self._limit else message


async def read_upload(request: Request, max_bytes: int, timeout_s: float) -> tuple[str, bytes]:
    """Return the name of the upload and its bytes; the name is "" where the body is the image.

    Raises:
        Refusal: it is too large, too slow, cut short, or a multipart body without one file.
    """
    bounded = _Bounded(request.receive, max_bytes)
    upload = Request(request.scope, bounded)
    is_late = False
    body = b""
    try:
        body = await asyncio.wait_for(upload.body(), timeout_s)
    except asyncio.TimeoutError:
        is_late = True
    except ClientDisconnect:
        raise Refusal(400, "upload: is cut short") from None
    if bounded.size > max_bytes:
        raise Refusal(413, f"upload: has more than --max_mb, {max_bytes / 1e6:g} MB")
    if is_late:
        raise Refusal(408, f"upload: took more than --timeout, {timeout_s:g} s")
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return "", body
    return await _file_of_form(upload)


async def discard_upload(request: Request, timeout_s: float) -> None:
    """Read the body of a request that is refused, so that its client sees the answer."""
    try:
        await asyncio.wait_for(
            Request(request.scope, _Bounded(request.receive, 0)).body(), timeout_s
        )
    except (asyncio.TimeoutError, ClientDisconnect):
        return


async def _file_of_form(upload: Request) -> tuple[str, bytes]:
    try:
        async with upload.form(max_files=1, max_fields=_FIELDS) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise Refusal(400, "upload: the multipart body has no file")
            name = PurePosixPath((files[0].filename or "").replace("\\", "/")).name
            # A charset such as UTF-7 can decode to what no answer can hold.
            return name.encode("utf-8", "replace").decode(), await files[0].read()
    except HTTPException as error:  # what the parser says of a damaged body
        raise Refusal(400, f"upload: {error.detail}") from None
    except UnicodeError:
        raise Refusal(400, "upload: its charset does not fit the multipart body") from None
