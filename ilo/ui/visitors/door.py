"""Middleware for every request to the page: refuses requests that are too large or name web addresses to fetch, and
counts open connections.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.responses import PlainTextResponse

from ilo.ui import text
from ilo.ui.visitors import temporary
from ilo.ui.visitors.visitors import Visitors

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOAD = "/gradio_api/upload"
PROGRESS = "/gradio_api/upload_progress"  # not used by this page; Gradio would keep every name in memory
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)/?$")
STREAM = re.compile(r"/gradio_api/queue/data/?$")  # the session is in the query string
CALL = re.compile(
    r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)/?$"
)  # also a stream; the id of the event stands for the session
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
FORM_BYTES = 64 * 1024  # size of a form without its file
DRAIN_SECONDS = 10.0  # how long to read the rest of a refused request, so that the client sees the answer


class TooLargeError(Exception):
    """A request exceeds the size limit."""


class Door:
    """The ASGI application `app`, with the limits of `visitors` in front of it."""

    def __init__(self, app: App, visitors: Visitors):
        self._app, self._visitors, self._limits = app, visitors, visitors.limits
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].endswith(PROGRESS):
            await PlainTextResponse(status_code=404)(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD"):
            await self._answered(scope, receive, send)
        elif scope["path"].endswith(UPLOAD):
            await self._upload(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request without a body, and count open connections."""
        session, stream = _session(scope)
        if session is None:
            await self._app(scope, receive, send)
            return
        with self._visitors.listening(session, stream) as line:

            async def told(message: Message) -> None:
                line.stuck = time.monotonic()
                await send(message)
                line.stuck = None

            await self._app(scope, receive, told)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request that is read completely before it is processed."""
        most, body, size, more = self._limits.request_bytes, bytearray(), _declared(scope), True
        if size <= most:
            size = 0
            while more and size <= most:
                message = await receive()
                if message["type"] != "http.request":
                    return  # the client has gone
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                body += part
        if size > most:
            del body
            await _refuse(scope, receive, send, 413, text.request_too_large(most), drain=more)
            return
        if _names_an_address(bytes(body)):
            await _refuse(scope, receive, send, 400, text.NO_ADDRESSES, drain=False)
            return
        whole = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replayed() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replayed, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an upload, which Gradio writes to disk while it arrives."""
        limits, size, more, started = self._limits, 0, True, False
        most = limits.upload_bytes + FORM_BYTES
        if _declared(scope) > most:
            await _refuse(scope, receive, send, 413, text.upload_too_large(limits.upload_bytes))
            return
        if self._uploads >= limits.uploads_at_once:
            await _refuse(scope, receive, send, 429, text.UPLOADS_BUSY)
            return

        async def counted() -> Message:
            nonlocal size, more
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
            if size > most:
                raise TooLargeError
            return message

        async def told(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._uploads += 1
        try:
            temporary.tidy(Path(scope["app"].uploaded_file_dir), limits)  # makes room for this one
            with anyio.move_on_after(limits.upload_seconds) as clock:
                await self._app(
                    {**scope, "query_string": b""}, counted, told
                )  # without the name under which Gradio would track its progress
        except TooLargeError:
            await _refuse(scope, receive, send, 413, text.upload_too_large(limits.upload_bytes), drain=more)
        else:
            if clock.cancelled_caught and not started:
                await _refuse(scope, receive, send, 408, text.UPLOAD_TOO_SLOW, drain=False)
        finally:
            self._uploads -= 1


def _session(scope: Scope) -> tuple[str | None, bool]:
    """The session of a connection, or None; and whether the connection is a stream."""
    path = scope["path"]
    if found := HEARTBEAT.search(path):
        return found[1], False
    if STREAM.search(path):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0], True
    if found := CALL.search(path):
        return found[1], True
    return None, False


def _names_an_address(body: bytes) -> bool:
    """Whether a request has a file whose path is a web address. Gradio would fetch it for any visitor."""
    try:
        left = [json.loads(body)]
    except (ValueError, RecursionError):  # Gradio cannot read it either
        return False
    while left:
        value = left.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and ADDRESS.match(path):
                return True
            left += value.values()
        elif isinstance(value, list):
            left += value
    return False


def _declared(scope: Scope) -> int:
    """The declared Content-Length; 0 without one."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, words: str, drain: bool = True) -> None:
    """Answer with a message and close the connection."""
    with anyio.move_on_after(DRAIN_SECONDS):
        while drain:
            message = await receive()
            drain = message["type"] == "http.request" and message.get("more_body", False)
    await PlainTextResponse(words, status, {"Connection": "close"})(scope, receive, send)
