"""Serve ILO Studio: python app.py, or as the entry point of a Hugging Face Space."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  On ZeroGPU it must come before torch; elsewhere it does nothing.

from ilo.ui.arguments import arguments


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted; 2 if a model, a device or the port cannot be used."""
    options = arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    from ilo.ui.visitors import serving

    return serving.serve(options)


if __name__ == "__main__":
    sys.exit(main())
