"""Periodic clean-up of the data of visitors who have left, while the page is served.

Gradio frees a session when its heartbeat ends. Without a heartbeat it would keep a session forever: its unread
messages, its state and, through the state, its pictures. The code uses internals of Gradio 6.31 (queue and state).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ilo.engine import memory
from ilo.ui.visitors import temporary
from ilo.ui.visitors.visitors import Visitors

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def lifespan(app: Any, visitors: Visitors) -> AsyncIterator[None]:
    """Run the clean-up as long as a server runs the Gradio application `app`."""
    visitors.served = True
    app.get_blocks()._queue.ANALYTICS_MAX_EVENTS = visitors.limits.queued  # each event is kept with its session
    task = asyncio.create_task(_keep_house(app, visitors))
    try:
        yield
    finally:
        visitors.served = False
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_house(app: Any, visitors: Visitors) -> None:
    limits, tidied = visitors.limits, 0.0
    while True:
        await asyncio.sleep(limits.sweep_seconds)
        try:
            await sweep(app, visitors)
            if time.monotonic() - tidied > limits.tidy_seconds:
                temporary.tidy(Path(app.uploaded_file_dir), limits)
                uploads = app.get_blocks().upload_file_set  # Gradio would keep their names forever
                uploads.difference_update([path for path in uploads if not os.path.exists(path)])
                tidied = time.monotonic()
        except Exception:
            log.exception("the housekeeping failed")


async def sweep(app: Any, visitors: Visitors) -> None:
    """Drop unread messages, and all data of visitors who have left."""
    messages, states = app.get_blocks()._queue.pending_messages_per_session, app.state_holder
    for session in list(messages):
        if visitors.unheard(session) or messages[session].qsize() > visitors.limits.messages:
            await _drop_messages(app, session)
    for session in list(states.session_data):
        visitors.away(session)  # starts its clock if it is new
    gone = visitors.gone()
    for session in gone:
        await _drop_messages(app, session)
        visitors.forget(session)
        states.session_data.pop(session, None)
        states.time_last_used.pop(session, None)
    if gone:
        memory.give_back()  # the C library would keep the memory of photographs


async def _drop_messages(app: Any, session: str) -> None:
    """Cancel everything that the session requested, as Gradio does when a stream closes."""
    queue = app.get_blocks()._queue
    queue.pending_messages_per_session.pop(session, None)
    await queue.clean_events(session_hash=session)
    queue.pending_event_ids_session.pop(session, None)
