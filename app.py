"""Serve ILO Studio: python app.py, or as the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import logging
import os
import sys


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    from ilo.ui.visitors.limits import Limits

    # A Space has to listen on all addresses; at home nobody else should see the page unless asked.
    host = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    model = os.environ.get("ILO_MODEL") or "faces64"
    steps = os.environ.get("ILO_MAX_STEPS") or Limits.steps  # a Space has variables instead of arguments
    parser = argparse.ArgumentParser(description="Serve ILO Studio in the browser.")
    add = parser.add_argument
    add("--host", default=host, help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    add("--share", action="store_true", help="also give a public link through Gradio's servers")
    add("--model", default=model, help="a model of `python -m ilo models`, fetched if need be, or the path of a file")
    add("--max-steps", type=int, default=steps, help="most steps of a run; 0: no limit (default: %(default)s)")
    add("--operator-module", action="append", default=[], metavar="FILE", help="a Python file with tasks of your own")
    add("--instead", help=argparse.SUPPRESS)  # the model that is served if --model cannot be, and
    add("--notice", default="", help=argparse.SUPPRESS)  # what the owner is then told; the page itself sets both
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
