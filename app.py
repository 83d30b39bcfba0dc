"""Serve ILO Studio: python app.py, or as the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import logging
import os
import sys


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    # A Space has to listen on all addresses; at home nobody else should see the page unless asked.
    host = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    model = os.environ.get("ILO_MODEL") or "faces64"
    parser = argparse.ArgumentParser(description="Serve ILO Studio in the browser.")
    parser.add_argument("--host", default=host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument("--share", action="store_true", help="also give a public link through Gradio's servers")
    parser.add_argument(
        "--model", default=model, help="a model of `python -m ilo models`, fetched if need be, or the path of a file"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted; 2 if the model or the port cannot be used."""
    options = arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    import ilo
    from ilo import cli_models, registry
    from ilo.download import DownloadError
    from ilo.stylegan2.checkpoint import CheckpointError
    from ilo.ui import page, temporary
    from ilo.ui.owner import Owner

    temporary.end_as_by_hand()
    try:
        if options.model in registry.ids("generator"):
            cli_models.bring(registry.BY_ID[options.model])
        owner = Owner.of(options)
        print(f"To choose models on the page, open {owner.address}", flush=True)
        model = ilo.load(options.model)
        with temporary.files():
            page.build(model, owner).launch(
                server_name=options.host, server_port=options.port, share=options.share, **page.launch_options()
            )
    except (CheckpointError, DownloadError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
