"""Serve the page that the arguments of app.py describe."""

from __future__ import annotations

import argparse
import logging
import os
import sys

import ilo
from ilo.engine import devices
from ilo.operators import own
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.settings import SettingsError
from ilo.ui import page
from ilo.ui.models.owner import Owner
from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits
from ilo.weights import registry
from ilo.weights.download import DownloadError
from ilo.weights.terminal import bring, bring_preloaded

log = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> int:
    """Serve until interrupted; 2 if the model or the port cannot be used.

    If the owner chose the model on the page, `options.instead` is the previous model; it is served again if the new one
    fails for any reason.
    """
    temporary.end_as_by_hand()
    owner = Owner.of(options)
    try:
        limits = Limits(steps=options.max_steps)
        own.load(options.operator_module)
        if options.model in registry.ids("generator"):
            bring(registry.BY_ID[options.model])
        if os.environ.get("SPACE_ID"):
            bring_preloaded()
        print(f"To manage models on the page, open {owner.address}", flush=True)
        chosen = devices.choose(options.device)
        if chosen.note:
            log.warning(chosen.note)
        model = ilo.load(options.model, chosen.device)
        with temporary.files():
            where = {"server_name": options.host, "server_port": options.port, "share": options.share}
            page.serve(model, owner, limits, **where)
    except Exception as error:
        if options.instead is not None:
            log.exception("the page cannot be served with %s", options.model)
            owner.fall_back(error)
        if not isinstance(error, (CheckpointError, DownloadError, SettingsError, OSError)):
            raise
        print(error, file=sys.stderr)
        return 2
    return 0
