"""The modules of the official programs, as they appear in their files.

They are torch modules with the programs' attributes, pickled in the same way as the programs do, including source code.

Nothing here generates pictures; those of the official programs are in tests/data/official-*.safetensors.
"""

import copy
import inspect
import sys
import types
from contextlib import contextmanager

import numpy as np
import torch


def _reconstruct_persistent_obj(meta):
    raise AssertionError("a pickle was executed")


class EasyDict(dict):
    pass


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
EasyDict.__module__ = EasyDict.__qualname__ = "dnnlib.util"
EasyDict.__qualname__ = "EasyDict"


@contextmanager
def importable():
    """Make the programs' module names importable while a pickle is written."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    made = {
        "torch_utils": types.ModuleType("torch_utils"),
        "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.util": util,
    }
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


class Persistent(torch.nn.Module):
    """A module whose pickle includes the source of its class."""

    def __init__(self, *weights, **kwargs):
        super().__init__()
        self.build(*weights, **kwargs)
        self._init_args = ()
        self._init_kwargs = copy.deepcopy(kwargs)

    def __reduce__(self):
        state = super().__reduce__()[2]
        meta = {
            "type": "class",
            "version": 6,
            "module_src": inspect.getsource(sys.modules[__name__]),
            "class_name": type(self).__name__,
            "state": state,
        }
        return _reconstruct_persistent_obj, (meta,), None, None, None


ACTIVATIONS = {"lrelu": np.sqrt(2), "relu": np.sqrt(2), "linear": 1, "swish": np.sqrt(2)}


class FullyConnectedLayer(Persistent):
    def build(self, layer, activation="linear", lr_multiplier=1):
        self.activation = activation
        self.weight, self.bias = layer.weight, layer.bias
        self.weight_gain = lr_multiplier / np.sqrt(layer.weight.shape[1])
        self.bias_gain = lr_multiplier


class MappingNetwork(Persistent):
    def build(self, mapping, config, activation="lrelu", lr_multiplier=0.01, w_avg_beta=0.995):
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = config.z_dim, 0, config.w_dim, config.num_ws
        self.num_layers, self.w_avg_beta = config.mapping_layers, w_avg_beta
        for i in range(config.mapping_layers):
            setattr(self, f"fc{i}", FullyConnectedLayer(getattr(mapping, f"fc{i}"), activation, lr_multiplier))
        if w_avg_beta is not None:
            self.register_buffer("w_avg", mapping.w_avg.clone())


class SynthesisLayer(Persistent):
    def build(self, layer, resolution, up=1, activation="lrelu", conv_clamp=None, use_noise=True):
        self.resolution, self.up, self.use_noise = resolution, up, use_noise
        self.activation, self.conv_clamp = activation, conv_clamp
        self.register_buffer("resample_filter", layer.resample_filter.clone())
        self.padding, self.act_gain = 1, ACTIVATIONS[activation]
        self.affine = FullyConnectedLayer(layer.affine)
        self.weight = layer.weight
        if use_noise:
            self.register_buffer("noise_const", layer.noise_const.clone())
            self.noise_strength = layer.noise_strength
        self.bias = layer.bias


class ToRGBLayer(Persistent):
    def build(self, layer, conv_clamp=None):
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(layer.affine)
        self.weight, self.bias = layer.weight, layer.bias
        self.weight_gain = 1 / np.sqrt(layer.weight.shape[1])


class SynthesisBlock(Persistent):
    def build(self, block, resolution, is_last, architecture="skip", use_fp16=False, conv_clamp=None, **layer):
        self.in_channels = block.conv0.weight.shape[1] if resolution > 4 else 0
        self.w_dim, self.resolution, self.img_channels = block.conv1.affine.weight.shape[1], resolution, 3
        self.is_last, self.architecture = is_last, architecture
        self.use_fp16 = self.channels_last = use_fp16
        self.register_buffer("resample_filter", block.resample_filter.clone())
        self.num_conv, self.num_torgb = 2 if resolution > 4 else 1, 1
        if resolution == 4:
            self.const = block.const
        else:
            self.conv0 = SynthesisLayer(block.conv0, resolution, up=2, conv_clamp=conv_clamp, **layer)
        self.conv1 = SynthesisLayer(block.conv1, resolution, conv_clamp=conv_clamp, **layer)
        self.torgb = ToRGBLayer(block.torgb, conv_clamp)


class SynthesisNetwork(Persistent):
    def build(self, synthesis, config, num_fp16_res=0, **block):
        self.w_dim, self.img_resolution, self.img_channels = config.w_dim, config.img_resolution, 3
        self.img_resolution_log2 = int(np.log2(config.img_resolution))
        self.block_resolutions, self.num_ws = list(synthesis.sizes), config.num_ws
        for size in synthesis.sizes:
            fp16 = size * 2**num_fp16_res > config.img_resolution
            made = SynthesisBlock(
                getattr(synthesis, f"b{size}"), size, size == config.img_resolution, use_fp16=fp16, **block
            )
            setattr(self, f"b{size}", made)


class Generator(Persistent):
    """A generator with the programs' options and the weights of a studio generator."""

    def build(self, made, mapping_kwargs, synthesis_kwargs):
        config = made.config
        self.z_dim, self.c_dim, self.w_dim = config.z_dim, 0, config.w_dim
        self.img_resolution, self.img_channels = config.img_resolution, 3
        self.synthesis = SynthesisNetwork(made.synthesis, config, **synthesis_kwargs)
        self.num_ws = config.num_ws
        self.mapping = MappingNetwork(made.mapping, config, **mapping_kwargs)


class Discriminator(Persistent):
    """A module with weights beside the generator."""

    def build(self):
        self.weight = torch.nn.Parameter(torch.zeros(2, 2))
        self.register_buffer("nothing", None)
