"""The arguments of app.py. A Space is configured by variables instead, which give the defaults."""

from __future__ import annotations

import argparse
import os

from ilo.ui.visitors.limits import Limits
from ilo.weights import registry

MCP = "GRADIO_MCP_SERVER"  # environment variable that Gradio reads, too
MODELS = "ILO_MODEL"  # environment variable: the models, with commas between them


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the arguments, by default those of the command line."""
    # A Space must listen on all addresses; elsewhere only this machine sees the page by default.
    host = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    models = [name.strip() for name in os.environ.get(MODELS, "").split(",") if name.strip()] or [registry.DEFAULT]
    steps = os.environ.get("ILO_MAX_STEPS") or Limits.steps
    parser = argparse.ArgumentParser(description="Serve ILO Studio in the browser.")
    add = parser.add_argument
    add("--host", default=host, help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    add("--share", action="store_true", help="also create a public link through Gradio's servers")
    add(
        "--model",
        action="append",
        help="a model listed by `python -m ilo models`, downloaded if needed, or a file; repeat it to let visitors "
        f"choose, the first one is the default (default: {MODELS}, or {registry.DEFAULT})",
    )
    add(
        "--max-steps",
        type=int,
        default=steps,
        help="maximum number of steps in a run; 0: no limit (default: %(default)s)",
    )
    add(
        "--device",
        help="auto, cpu, cuda, cuda:N or mps; auto takes an NVIDIA GPU if it works (default: ILO_DEVICE, or auto)",
    )
    add(
        "--devices",
        metavar="LIST",
        help="several devices, each of which makes one run at a time, such as cuda:0,cuda:1; all: every NVIDIA GPU "
        "(default: ILO_DEVICES)",
    )
    add(
        "--mcp",
        action="store_true",
        default=os.environ.get(MCP, "").lower() == "true",
        help=f"also offer the functions of the API as MCP tools; needs gradio[mcp] (default: {MCP})",
    )
    add("--operator-module", action="append", default=[], metavar="FILE", help="a Python file with your own tasks")
    # The page itself sets these two: the models to serve if --model fails, and the message to the owner in that case.
    add("--instead", action="append", help=argparse.SUPPRESS)
    add("--notice", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.model = options.model or models
    return options
