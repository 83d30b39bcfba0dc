"""Serve the page that the arguments of app.py describe."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

import ilo
from ilo.operators import own
from ilo.priors.load import Model
from ilo.priors.stylegan2.checkpoint import CheckpointError
from ilo.settings import SettingsError
from ilo.ui import page, text
from ilo.ui.models.owner import Owner
from ilo.ui.runs import places, zerogpu
from ilo.ui.runs.machine import Maker, OneDevice
from ilo.ui.visitors import temporary
from ilo.ui.visitors.limits import Limits
from ilo.weights import registry
from ilo.weights.download import DownloadError
from ilo.weights.terminal import bring, bring_preloaded

log = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> int:
    """Serve until interrupted; 2 if a model, a device or the port cannot be used.

    If the owner chose a model on the page, `options.instead` are the previous models; they are served again if the new
    one fails for any reason.
    """
    temporary.end_as_by_hand()
    owner = Owner.of(options)
    try:
        limits = Limits(steps=options.max_steps)
        own.load(options.operator_module)
        for name in options.model:
            if name in registry.ids("generator"):
                bring(registry.BY_ID[name])
        if os.environ.get("SPACE_ID"):
            bring_preloaded()
        print(f"To manage models on the page, open {owner.address}", flush=True)
        models = _load(options.model)
        with temporary.files():
            where = {"server_name": options.host, "server_port": options.port, "share": options.share}
            page.serve(models, owner, limits, _makers(models, options), _mcp(options), **where)
    except Exception as error:
        if options.instead is not None:
            log.exception("the page cannot be served with %s", ", ".join(options.model))
            owner.fall_back(error)
        if not isinstance(error, (CheckpointError, DownloadError, SettingsError, OSError)):
            raise
        print(error, file=sys.stderr)
        return 2
    return 0


def _mcp(options: argparse.Namespace) -> bool:
    """Whether to offer MCP tools: if they are asked for and their package is here."""
    if options.mcp and find_spec("mcp") is None:
        print(text.NO_MCP, file=sys.stderr)
        return False
    return bool(options.mcp)


def _load(names: Sequence[str]) -> list[Model]:
    """Load the models on the CPU. Raises `SettingsError` if two have the same name."""
    models = [ilo.load(name) for name in names]
    ids = [model.id for model in models]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"Two models are named {twice}; give each model once, and different files different names.")
    return models


def _makers(models: Sequence[Model], options: argparse.Namespace) -> list[Maker]:
    """What makes the machines for the runs: one for each device, or ZeroGPU."""
    if zerogpu.active():
        lent = zerogpu.ZeroGpu(models)
        return [lambda: lent] * zerogpu.PLACES
    names = options.devices or (None if options.device else os.environ.get(places.VARIABLE))
    return [partial(OneDevice, models, device) for device in places.chosen(options.device, names)]
