"""Loading generators by registry id or from files."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import torch

from ilo.priors.stylegan2 import checkpoint, latents, published
from ilo.priors.stylegan2.checkpoint import Checkpoint, CheckpointError
from ilo.priors.stylegan2.network import Config, Generator
from ilo.priors.stylegan2.prior import Model
from ilo.weights import cache, registry
from ilo.weights.find import find, reading

FORMATS = (".safetensors", ".pkl", ".pt")
logger = logging.getLogger(__name__)


def load(name: str = registry.DEFAULT, device: str | torch.device = "cpu") -> Model:
    """Load a generator by its registry id, or from a file.

    Args:
        name: registry id, or path of a file: an official network pickle (`.pkl`), a rosinality checkpoint (`.pt`), or
            `.safetensors` in the format of assets/faces64.safetensors.
        device: device for the weights.

    Raises:
        CheckpointError: no such id or file, or the file is not a usable StyleGAN2 generator.
    """
    path = file_of(name)
    with reading(path, CheckpointError):
        return _load(name, path, torch.device(device))


def file_of(name: str) -> Path:
    """The weights file of a generator, by id or path. Raises `CheckpointError`."""
    return find(name, "generator", FORMATS, CheckpointError)


def _load(name: str, path: Path, device: torch.device) -> Model:
    found = cache.sha256(path)
    if path.suffix == ".safetensors":
        kept, read = path, checkpoint.read_safetensors(path)
        generator = checkpoint.build(read, path.name)
    else:
        kept, read, generator = _published(path, found)
    try:
        fitted = latents.cached(generator, kept.with_suffix(".latents.safetensors"))
    except ValueError as error:
        raise CheckpointError(f"{path.name}: {error}.") from None
    return Model(
        name if name in registry.BY_ID else path.stem,
        generator.to(device).freeze(),
        fitted.to(device),
        path,
        found,
        read.about,
    )


def usual_config(resolution: int) -> Config:
    """The usual StyleGAN2 configuration at a resolution, for estimates."""
    base = 16384 if resolution <= 256 else 32768
    sides = [4 * 2**k for k in range(resolution.bit_length() - 2)]
    return Config(512, 512, resolution, {side: min(512, base // side) for side in sides}, conv_clamp=256)


def _published(path: Path, found: str) -> tuple[Path, Checkpoint, Generator]:
    """Load from the converted safetensors cache, converting on first use. Returns its path, content and generator."""
    kept = cache.folder() / f"{found}.safetensors"
    with suppress(CheckpointError):  # not converted yet, or damaged
        read = checkpoint.read_safetensors(kept)
        return kept, read, checkpoint.build(read, path.name)
    read = published.read(path)
    generator = checkpoint.build(read, path.name)
    try:
        checkpoint.write_safetensors(read, kept)
    except OSError as error:
        logger.warning("%s has to be converted again at every start: %s.", path.name, error)
    return kept, read, generator
