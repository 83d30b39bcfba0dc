"""Small network files in the real published formats, written by the libraries that wrote the real ones."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch

from ilo.stylegan2.network import Config, Generator

SOURCE = "import os\nos.system('touch executed')\n"  # what a network pickle brings along, and nobody may run


def generator(size=64, layers=2, width=16, channels=8, clamp=None):
    """A generator with random weights, as large as is asked."""
    torch.manual_seed(size + layers)
    sizes = [4 * 2**k for k in range(size.bit_length() - 2)]
    config = Config(width, width, size, {s: max(4, channels - 2 * k) for k, s in enumerate(sizes)}, layers)
    made = Generator(Config(**{**config.__dict__, "conv_clamp": clamp}))
    for name, parameter in made.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    made.mapping.w_avg.copy_(torch.randn(width))
    return made


class Persistent:
    """Pickles as the official programs' modules do."""

    def __init__(self, class_name, state):
        self.class_name, self.state = class_name, state

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.class_name, "state": self.state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


@contextmanager
def programs():
    """The official programs' modules, as far as pickles name them."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("a pickle was executed")

    class EasyDict(dict):
        pass

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    made = {
        "torch_utils": types.ModuleType("torch_utils"),
        "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.util": util,
    }
    sys.modules.update(made)
    try:
        yield util.EasyDict
    finally:
        for name in made:
            del sys.modules[name]


CLASSES = {
    "FullyConnected": "FullyConnectedLayer",
    "ToRGB": "ToRGBLayer",
}


def _persistent(module, kwargs):
    parameters = OrderedDict((k, torch.nn.Parameter(v.detach().clone())) for k, v in module._parameters.items())
    state = {
        "training": False,
        "_parameters": parameters,
        "_buffers": OrderedDict((k, v.clone()) for k, v in module._buffers.items()),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_forward_hooks": OrderedDict(),
        "_modules": OrderedDict((k, _persistent(m, {})) for k, m in module._modules.items()),
        "_init_args": (),
        "_init_kwargs": kwargs,
    }
    name = type(module).__name__
    return Persistent(CLASSES.get(name, name), state)


def official(path: Path, made: Generator) -> Path:
    """An official network pickle: G, D, G_ema and more, protocol 4."""
    with programs() as easy_dict:
        config = made.config
        kwargs = easy_dict(
            z_dim=config.z_dim,
            c_dim=0,
            w_dim=config.w_dim,
            img_resolution=config.img_resolution,
            img_channels=3,
            mapping_kwargs=easy_dict(num_layers=config.mapping_layers),
            synthesis_kwargs=easy_dict(channel_base=1024, channel_max=64, num_fp16_res=0, conv_clamp=config.conv_clamp),
        )
        network = _persistent(made, kwargs)
        other = _persistent(torch.nn.Linear(2, 2), {})
        content = {
            "G": other,
            "D": other,
            "G_ema": network,
            "augment_pipe": None,
            "training_set_kwargs": easy_dict(n=1),
        }
        path.write_bytes(pickle.dumps(content, protocol=4))
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


def rosinality(path: Path, made: Generator, zipped: bool = True) -> Path:
    content = {"g": {}, "d": {}, "g_ema": rosinality_state(made), "latent_avg": made.mapping.w_avg}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
