"""Reading generators from files: tensors and plain JSON only, nothing in a file is ever executed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ilo.stylegan2.network import Config, Generator


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """A weights file as read: tensors in the official names, and what the file says about itself."""

    config: Config
    tensors: dict[str, Tensor]
    about: dict[str, Any]  # alignment template, training summary, licence


def read_safetensors(path: Path) -> Checkpoint:
    """Read a generator from safetensors with JSON metadata `config` (and `alignment`, `training`, `licence`).

    Raises:
        CheckpointError: the file is missing, truncated, not safetensors, or holds no StyleGAN2 configuration.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.name}: there is no such weights file. Check the name, or use faces64.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path.name}: not a complete safetensors file ({error}). Fetch or copy it again."
        ) from None
    return Checkpoint(_config(path, metadata), tensors, _about(metadata))


def write_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    """Write a generator so that `read_safetensors` reads it again; a reader never sees half of it.

    Raises:
        OSError: there is no room, or no right to write.
    """
    config = {**asdict(checkpoint.config), "channels": {str(k): n for k, n in checkpoint.config.channels.items()}}
    metadata = {"config": json.dumps(config)}
    metadata |= {key: json.dumps(value, ensure_ascii=False) for key, value in checkpoint.about.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file({key: tensor.contiguous() for key, tensor in checkpoint.tensors.items()}, partial, metadata)
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    finally:
        partial.unlink(missing_ok=True)


def build(checkpoint: Checkpoint, name: str) -> Generator:
    """The frozen float32 generator of a checkpoint.

    Raises:
        CheckpointError: tensors are missing, have other shapes than the configuration says, or are not finite.
    """
    with torch.device("meta"):  # shapes without memory, until it is known that the file fills them
        wanted = Generator(checkpoint.config).state_dict()
    given = checkpoint.tensors
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} does not belong there"
        raise CheckpointError(f"{name}: not the network that its configuration describes ({what}).")
    for key, tensor in given.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(
                f"{name}: {key} has shape {list(tensor.shape)}; its configuration asks for {list(wanted[key].shape)}."
            )
        if not tensor.isfinite().all():
            raise CheckpointError(f"{name}: {key} holds values that are not finite numbers.")
    generator = Generator(checkpoint.config)
    generator.load_state_dict({k: v.float() for k, v in given.items()})
    return generator.freeze()


def _config(path: Path, metadata: dict[str, str]) -> Config:
    try:
        raw = json.loads(metadata["config"])
        config = Config(
            z_dim=int(raw["z_dim"]),
            w_dim=int(raw["w_dim"]),
            img_resolution=int(raw["img_resolution"]),
            channels={int(size): int(count) for size, count in raw["channels"].items()},
            mapping_layers=int(raw["mapping_layers"]),
            mapping_lr_multiplier=float(raw["mapping_lr_multiplier"]),
            conv_clamp=raw.get("conv_clamp"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path.name}: its metadata holds no StyleGAN2 configuration ({error!r}).") from None
    sizes = [4 * 2**k for k in range(len(config.channels))]
    limits = (config.z_dim, config.w_dim, *config.channels.values())
    if sorted(config.channels) != sizes or config.img_resolution != sizes[-1] or not 8 <= sizes[-1] <= 1024:
        raise CheckpointError(
            f"{path.name}: its blocks are {sorted(config.channels)}; expected are 4, 8, … up to 1024."
        )
    if not all(1 <= n <= 4096 for n in limits) or not 1 <= config.mapping_layers <= 32:
        raise CheckpointError(f"{path.name}: its configuration has layer sizes that StyleGAN2 never has.")
    return config


def _about(metadata: dict[str, str]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for key in ("alignment", "training", "licence"):
        if key in metadata:
            try:
                about[key] = json.loads(metadata[key])
            except ValueError:
                about[key] = metadata[key]
    return about
