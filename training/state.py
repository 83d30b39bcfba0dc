"""The networks of a training in a file, to begin another training with: `train_generator --start`, `grow --state`.

A state file is safetensors with the tensors `g.…` (generator), `ema.…` (its average) and `d.…` (discriminator). The
metadata's JSON `training` gives the thousands of pictures that they have seen as `kimg`. A training's checkpoint.pt
holds the same networks, so it is read, too.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ilo.priors.stylegan2.network import Config, Generator
from ilo.text.words import reason
from ilo.weights.description import differences
from training.discriminator import Discriminator

PREFIXES = {"generator": "g.", "average": "ema.", "discriminator": "d."}
Tensors = dict[str, Tensor]  # a network's state dict


@dataclass(frozen=True)
class State:
    """The networks of a training.

    Raises:
        ValueError: the three do not belong together, or are not the networks of a training.
    """

    generator: Tensors
    average: Tensors  # the generator with averaged weights
    discriminator: Tensors
    images: int = 0  # pictures shown in total

    def __post_init__(self) -> None:
        for name in PREFIXES:
            if not getattr(self, name):
                raise ValueError(f"it holds no {name}")
        with torch.device("meta"):
            generator = Generator(self.config).state_dict()
            wanted = dict.fromkeys(PREFIXES, generator) | {
                "discriminator": Discriminator(self.config.channels).state_dict()
            }
        for name, tensors in wanted.items():
            wrong = differences(tensors, {key: tensor.shape for key, tensor in getattr(self, name).items()})
            if wrong:
                raise ValueError(f"in its {name}, {wrong[0]}")

    @cached_property
    def config(self) -> Config:
        """The generator's architecture, which the shapes of its tensors determine."""
        found = {re.fullmatch(r"synthesis\.b(\d+)\.conv1\.bias", name): x for name, x in self.generator.items()}
        channels = {int(match[1]): x.numel() for match, x in found.items() if match}
        layers = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in self.generator)
        if not layers:
            raise ValueError("its generator has no mapping network")
        w_dim, z_dim = self.generator["mapping.fc0.weight"].shape
        return Config(z_dim, w_dim, max(channels, default=0), channels, layers)

    @property
    def options(self) -> str:
        """The options of `training.train_generator` for networks of these shapes."""
        channels = " ".join(str(self.config.channels[size]) for size in sorted(self.config.channels))
        return f"--channels {channels} --latent {self.config.w_dim} --mapping-layers {self.config.mapping_layers}"


def read_state(path: Path) -> State:
    """Read the networks from a state file, or from a training's checkpoint.

    Raises:
        ValueError: the file is missing, of another kind, or its networks are not those of a training.
    """
    try:
        return _read_checkpoint(path) if zipfile.is_zipfile(path) else _read_safetensors(path)
    except (
        OSError,
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        raise ValueError(
            f"{path} is not the state of a training ({reason(error)}); allowed is a checkpoint.pt of "
            "training.train_generator, or safetensors with its networks as g.…, ema.… and d.…"
        ) from None


def write_state(state: State, path: Path) -> None:
    """Write a state file, atomically."""
    tensors = {
        prefix + key: tensor.clone(memory_format=torch.contiguous_format)  # tensors in a file may not share memory
        for name, prefix in PREFIXES.items()
        for key, tensor in getattr(state, name).items()
    }
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {"training": json.dumps({"kimg": state.images / 1000})})
    partial.replace(path)


def _read_safetensors(path: Path) -> State:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a dict)
        about = json.loads((file.metadata() or {}).get("training", "{}"))
    networks = {
        name: {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
        for name, prefix in PREFIXES.items()
    }
    return State(**networks, images=round(1000 * about.get("kimg", 0)))


def _read_checkpoint(path: Path) -> State:
    stored = torch.load(path, weights_only=True, map_location="cpu")
    return State(**{name: stored[name] for name in PREFIXES}, images=stored["images"])
