"""The owner of a page, who may choose its models: anyone who knows its key.

The key is part of the address printed at the start, or is set as `ILO_OWNER_KEY`.
"""

from __future__ import annotations

import argparse
import hmac
import os
import secrets
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ilo.text.words import reason
from ilo.ui import text
from ilo.ui.visitors import temporary

KEY = "ILO_OWNER_KEY"
RESTART_SECONDS = 0.5  # time for the answer to reach the browser


@dataclass(frozen=True)
class Owner:
    """The person who may choose the models of a page."""

    key: str
    address: str  # of the page, with the key
    restart: Callable[[str, int], None]  # serve another model instead of the one at this place in the list
    fall_back: Callable[[Exception], None]  # serve the previous models again; does not return
    notice: str = ""  # why the chosen model is not in use

    @classmethod
    def of(cls, options: argparse.Namespace) -> Owner:
        """The owner of the page that app.py serves with these options."""
        key = os.environ.get(KEY) or secrets.token_urlsafe(16)
        host = "127.0.0.1" if options.host == "0.0.0.0" else options.host

        def start(models: list[str], *more: str) -> None:
            command = [sys.executable, sys.argv[0], "--host", options.host, "--port", str(options.port)]
            command += ["--max-steps", str(options.max_steps), *["--share"] * options.share, *more]
            command += [word for model in models for word in ("--model", model)]
            command += [] if options.device is None else ["--device", options.device]
            command += [] if options.devices is None else ["--devices", options.devices]
            command += [word for file in options.operator_module for word in ("--operator-module", file)]
            os.execve(sys.executable, command, {**temporary.outside(), KEY: key})

        def restart(model: str, place: int) -> None:
            models = [*options.model[:place], model, *options.model[place + 1 :]]
            before = [word for model in options.model for word in ("--instead", model)]
            threading.Timer(RESTART_SECONDS, start, (models, *before)).start()

        def fall_back(error: Exception) -> None:
            new = next((model for model in options.model if model not in options.instead), options.model[0])
            start(options.instead, "--notice", text.model_failed(Path(new).name, why(error)))

        address = f"http://{host}:{options.port}/?owner={key}"
        return cls(key, address, restart, fall_back, options.notice)

    def asks(self, request: gr.Request) -> bool:
        """Whether a request comes from the owner."""
        given = str(request.query_params.get("owner", ""))
        return hmac.compare_digest(given.encode(), self.key.encode())


def why(error: Exception) -> str:
    """The error on one line."""
    return reason(error) or type(error).__name__
