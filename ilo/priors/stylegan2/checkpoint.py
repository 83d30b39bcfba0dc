"""Reading generators from files: described first, then read; nothing in a file is ever executed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ilo.priors.stylegan2.network import Config, Generator
from ilo.text.words import shown
from ilo.weights.description import Description, differences
from ilo.weights.find import reading
from ilo.weights.lazy import Extent, ReadError
from ilo.weights.safefile import parse_json, read_header

LEAST_WIDTH = 0.05  # minimum distance between the eyes, and between the mouth corners, as a fraction of the picture
LANDMARKS = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")


class CheckpointError(ValueError):
    """A weights file cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file: tensors under the official names, and metadata."""

    config: Config
    tensors: dict[str, Tensor]
    about: dict[str, Any]  # metadata: alignment template, training summary, licence


@dataclass
class GeneratorDescription(Description):
    """A generator's weights file before loading; its tensors have the official names."""

    config: Config | None = None  # None if the file does not determine it

    @property
    def role(self) -> str:
        config = self.config
        if config is None:
            return ""
        widths = "·".join(str(config.channels[size]) for size in sorted(config.channels))
        clamp = "no clamp" if config.conv_clamp is None else f"activations clamped to ±{config.conv_clamp:g}"
        latents = f"z {config.z_dim}, w {config.w_dim}, {config.mapping_layers} mapping layers"
        size = f"{config.img_resolution} × {config.img_resolution}"
        return f"a generator of {size} pixels: {latents}, channels {widths}, {clamp}"

    def compare_network(self, optional: Sequence[str] = ()) -> None:
        """Compare the tensors with those of a network with this configuration."""
        if self.config is not None:
            self.compare(_state(self.config), optional)

    def read(self) -> Checkpoint:
        """Read the checkpoint.

        Raises:
            ReadError: the description has problems, or numbers are missing or not finite.
        """
        tensors = self.weights()
        if self.config is None:
            raise ReadError("it holds no StyleGAN2 generator")
        return Checkpoint(self.config, tensors, self.about)


def describe(data: Extent) -> GeneratorDescription:
    """Describe a safetensors file, which is a generator if its metadata has a `config`.

    Raises:
        ReadError: the file is not a complete safetensors file.
    """
    tensors, metadata = read_header(data)
    found = GeneratorDescription("safetensors in the studio's own format", len(data), tensors=tensors)
    try:
        found.config = _config(parse_json(metadata["config"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = "config is missing" if isinstance(error, KeyError) else shown(str(error), 200)
        found.problems.append(f"its metadata hold no StyleGAN2 configuration ({reason})")
    for key in ("alignment", "training", "licence"):
        try:
            if key in metadata:
                found.about[key] = parse_json(metadata[key])
        except ReadError:
            found.about[key] = metadata[key]
    if "alignment" in found.about and not _is_alignment(found.about["alignment"]):
        found.problems.append(
            f"its alignment is {shown(found.about['alignment'])}; it must give {', '.join(LANDMARKS)}, each as [x, y] "
            "from 0.01 to 0.99, with left and right apart"
        )
    found.compare_network()
    return found


def read_safetensors(path: Path) -> Checkpoint:
    """Read a generator from safetensors with JSON metadata `config` (and `alignment`, `training`, `licence`).

    Raises:
        CheckpointError: the file is missing, truncated, not safetensors, or holds no StyleGAN2 generator.
    """
    with reading(path, CheckpointError):
        return describe(Extent.of_file(path)).read()


def write_safetensors(checkpoint: Checkpoint, path: Path) -> None:
    """Write a generator in the format of `read_safetensors`, atomically.

    Raises:
        OSError: the disk is full, or the folder is not writable.
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


def _state(config: Config) -> dict[str, Tensor]:
    """State dict of a configuration's network, on the meta device."""
    with torch.device("meta"):
        return Generator(config).state_dict()


def build(checkpoint: Checkpoint, name: str) -> Generator:
    """Build the frozen float32 generator of a checkpoint.

    Raises:
        CheckpointError: tensors are missing, have wrong shapes for the configuration, or are not finite.
    """
    wrong = differences(_state(checkpoint.config), {key: tensor.shape for key, tensor in checkpoint.tensors.items()})
    wrong += [
        f"{key} holds values that are not finite" for key, t in checkpoint.tensors.items() if not t.isfinite().all()
    ]
    if wrong:
        raise CheckpointError(f"{name}: not the network that its configuration describes ({wrong[0]}).")
    with torch.device("meta"):
        generator = Generator(checkpoint.config)
    generator.load_state_dict({key: tensor.float() for key, tensor in checkpoint.tensors.items()}, assign=True)
    return generator.freeze()


def _config(raw: dict[str, Any]) -> Config:
    return Config(
        z_dim=raw["z_dim"],
        w_dim=raw["w_dim"],
        img_resolution=raw["img_resolution"],
        channels={int(size): count for size, count in raw["channels"].items()},
        mapping_layers=raw["mapping_layers"],
        mapping_lr_multiplier=raw["mapping_lr_multiplier"],
        conv_clamp=raw.get("conv_clamp"),
    )


def _is_alignment(value: Any) -> bool:
    """Whether every landmark is inside the picture, with the eyes and the mouth corners apart."""
    if not isinstance(value, dict) or sorted(value) != sorted(LANDMARKS):
        return False
    points = list(value.values())
    if not all(isinstance(point, list) and len(point) == 2 and all(map(_is_fraction, point)) for point in points):
        return False
    return all(value[f"{pair}_right"][0] - value[f"{pair}_left"][0] >= LEAST_WIDTH for pair in ("eye", "mouth"))


def _is_fraction(value: Any) -> bool:
    """Whether a value is a position that is not at the very edge of the picture."""
    return type(value) in (int, float) and 0.01 <= value <= 0.99
