"""Small network files in the published formats, written with the same libraries as the real files."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import torch

from ilo.priors.stylegan2.network import Config, Generator
from tests import programs
from tests.programs import EasyDict

SOURCE = "import os\nos.system('touch executed')\n"  # source code in a hostile network pickle


def generator(size=64, layers=2, width=16, channels=8, clamp=None, multiplier=0.01):
    """A generator with random weights and the given sizes."""
    torch.manual_seed(size + layers)
    sizes = [4 * 2**k for k in range(size.bit_length() - 2)]
    shape = {s: max(4, channels - 2 * k) for k, s in enumerate(sizes)}
    made = Generator(Config(width, width, size, shape, layers, multiplier, clamp))
    for name, parameter in made.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    made.mapping.w_avg.copy_(torch.randn(width))
    return made


def official(path: Path, made: Generator, protocol: int = 4, mapping=None, synthesis=None, change=None) -> Path:
    """Write an official network pickle: G, D, G_ema and more.

    `mapping` and `synthesis` are additional options of those networks; `change` may modify the network.
    """
    config = made.config
    mapping_kwargs = EasyDict(lr_multiplier=config.mapping_lr_multiplier, **(mapping or {}))
    synthesis_kwargs = EasyDict(conv_clamp=config.conv_clamp, num_fp16_res=0, **(synthesis or {}))
    network = programs.Generator(made, mapping_kwargs=mapping_kwargs, synthesis_kwargs=synthesis_kwargs).eval()
    if change is not None:
        change(network)
    content = {
        "G": programs.Generator(made, mapping_kwargs=mapping_kwargs, synthesis_kwargs=synthesis_kwargs),
        "D": programs.Discriminator(),
        "G_ema": network.requires_grad_(False),
        "augment_pipe": None,
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", use_labels=False),
    }
    with programs.importable():
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def rosinality_state(made: Generator) -> dict[str, torch.Tensor]:
    """The state dict of rosinality's generator."""
    state = {}
    kernel = made.synthesis.b4.conv1.resample_filter

    def layer(name, source):
        state[f"{name}.conv.weight"] = source.weight[None]
        state[f"{name}.conv.modulation.weight"] = source.affine.weight
        state[f"{name}.conv.modulation.bias"] = source.affine.bias
        if hasattr(source, "noise_strength"):
            state[f"{name}.noise.weight"] = source.noise_strength.reshape(1)
            state[f"{name}.activate.bias"] = source.bias
        else:
            state[f"{name}.bias"] = source.bias.reshape(1, 3, 1, 1)

    for i in range(made.config.mapping_layers):
        state[f"style.{i + 1}.weight"] = getattr(made.mapping, f"fc{i}").weight
        state[f"style.{i + 1}.bias"] = getattr(made.mapping, f"fc{i}").bias
    first = made.synthesis.b4
    state["input.input"] = first.const[None]
    layer("conv1", first.conv1)
    layer("to_rgb1", first.torgb)
    state["noises.noise_0"] = first.conv1.noise_const[None, None]
    for j, size in enumerate(made.synthesis.sizes[1:]):
        block = getattr(made.synthesis, f"b{size}")
        layer(f"convs.{2 * j}", block.conv0)
        state[f"convs.{2 * j}.conv.blur.kernel"] = 4 * kernel
        layer(f"convs.{2 * j + 1}", block.conv1)
        layer(f"to_rgbs.{j}", block.torgb)
        state[f"to_rgbs.{j}.upsample.kernel"] = 4 * kernel
        state[f"noises.noise_{2 * j + 1}"] = block.conv0.noise_const[None, None]
        state[f"noises.noise_{2 * j + 2}"] = block.conv1.noise_const[None, None]
    return {key: value.detach() for key, value in state.items()}


def as_module(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A module whose state dict has these names and tensors."""
    root = torch.nn.Module()
    for key, value in state.items():
        *parents, name = key.split(".")
        module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, torch.nn.Module())
            module = module._modules[parent]
        if parents[:1] == ["noises"] or name == "kernel":
            module.register_buffer(name, value.clone())
        else:
            module.register_parameter(name, torch.nn.Parameter(value.clone()))
    return root


def rosinality(path: Path, made: Generator, zipped: bool = True, average: bool = True, kernel=None) -> Path:
    """Write a checkpoint of rosinality's program; without `average`, as saved during training."""
    state = rosinality_state(made)
    if kernel is not None:
        state = {key: kernel if key.endswith("kernel") else value for key, value in state.items()}
    network = as_module(state)
    adam = torch.optim.Adam(network.parameters(), lr=0.002)
    sum(p.sum() for p in network.parameters()).backward()
    adam.step()
    network.load_state_dict(state)
    content = {"g": network.state_dict(), "d": torch.nn.Linear(2, 2).state_dict(), "g_ema": network.state_dict()}
    if average:
        content |= {"latent_avg": made.mapping.w_avg}
    else:
        content |= {"g_optim": adam.state_dict(), "args": argparse.Namespace(size=64, lr=0.002), "ada_aug_p": 0.1}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
