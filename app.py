"""Serve ILO Studio: python app.py, or as the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import logging
import os
import sys


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    from ilo.ui.visitors.limits import Limits
    from ilo.weights import registry

    # A Space must listen on all addresses; elsewhere only this machine sees the page by default.
    host = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    model = os.environ.get("ILO_MODEL") or registry.DEFAULT
    steps = os.environ.get("ILO_MAX_STEPS") or Limits.steps  # a Space is configured by variables, not arguments
    parser = argparse.ArgumentParser(description="Serve ILO Studio in the browser.")
    add = parser.add_argument
    add("--host", default=host, help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    add("--share", action="store_true", help="also create a public link through Gradio's servers")
    add(
        "--model",
        default=model,
        help="a model listed by `python -m ilo models`, downloaded if needed, or a file (default: %(default)s)",
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
    add("--operator-module", action="append", default=[], metavar="FILE", help="a Python file with your own tasks")
    add("--instead", help=argparse.SUPPRESS)  # the model to serve if --model fails, and
    add(
        "--notice", default="", help=argparse.SUPPRESS
    )  # the message to the owner in that case; the page itself sets both
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted; 2 if the model or the port cannot be used."""
    options = arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    from ilo.ui.visitors import serving

    return serving.serve(options)


if __name__ == "__main__":
    sys.exit(main())
