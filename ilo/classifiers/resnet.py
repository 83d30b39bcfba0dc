"""The published robust ImageNet classifiers: ResNet-50 (He et al. 2016), as saved by the `robustness` library
(Engstrom et al. 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.resnet import Bottleneck

from ilo.weights.description import Description
from ilo.weights.lazy import LazyTensor, ReadError, read_weights

PREFIX = "module.model."  # prefix of the network's own tensors; the attacker's copy has another one
COUNTERS = "num_batches_tracked"
NORMALISER = ("new_mean", "new_std")
MOST_CLASSES = 100_000


class ResNet50(nn.Module):
    """torchvision's ResNet-50 for pictures in [−1, 1]."""

    size = 224  # pixels per side of the training pictures
    mean: Tensor
    deviation: Tensor

    def __init__(self, classes: int, mean: tuple[float, ...], deviation: tuple[float, ...]):
        super().__init__()
        self.net = resnet50(weights=None, num_classes=classes)
        # Always on the CPU, even in a network built on the meta device, because no file holds them.
        here = torch.device("cpu")
        self.register_buffer("mean", 2 * torch.tensor(mean, device=here)[:, None, None] - 1, persistent=False)
        self.register_buffer("deviation", 2 * torch.tensor(deviation, device=here)[:, None, None], persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after each of the four stages, of pictures [B, 3, H, W] in [−1, 1]."""
        net = self.net
        x = F.max_pool2d(F.relu(net.bn1(net.conv1((x - self.mean) / self.deviation))), 3, 2, 1)
        found = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, 3, H, W] in [−1, 1]."""
        return self.net.fc(self.features(x)[-1].mean((2, 3)))

    def fold(self) -> ResNet50:
        """Fold each batch normalisation into the convolution before it, for inference only. Returns self."""
        net = self.eval().net
        net.conv1, net.bn1 = fuse_conv_bn_eval(net.conv1, net.bn1), nn.Identity()
        for block in net.modules():
            if isinstance(block, Bottleneck):
                block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), nn.Identity()
                block.conv2, block.bn2 = fuse_conv_bn_eval(block.conv2, block.bn2), nn.Identity()
                block.conv3, block.bn3 = fuse_conv_bn_eval(block.conv3, block.bn3), nn.Identity()
                if block.downsample is not None:
                    block.downsample = nn.Sequential(fuse_conv_bn_eval(*block.downsample))
        return self


@dataclass
class ResNetDescription(Description):
    """A checkpoint of the `robustness` library, before loading."""

    classes: int = 0
    normaliser: dict[str, LazyTensor] = field(default_factory=dict)  # new_mean, new_std, for pictures on [0, 1]

    @property
    def role(self) -> str:
        return f"a classifier of {self.classes:,} classes, a ResNet-50 for pictures of {ResNet50.size} pixels"

    def read(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> ResNet50:
        """Read the network, with the file's own normaliser if it has one, otherwise the given mean and deviation.

        Raises:
            ReadError: the description has problems, or numbers are missing or not finite.
        """
        weights = self.weights()
        own = {
            name: tuple(value.flatten().tolist()) for name, value in read_weights(self.normaliser, self.size).items()
        }
        mean, deviation = own.get("new_mean", mean), own.get("new_std", deviation)
        if min(deviation) <= 0:
            raise ReadError(f"its input normalisation divides by {min(deviation):g}")
        with torch.device("meta"):
            network = ResNet50(self.classes, mean, deviation)
        network.net.load_state_dict(weights, strict=False, assign=True)
        return network


def describe(content: Any, size: int) -> ResNetDescription:
    """Describe the network in a checkpoint.

    Args:
        content: content of the file, whose tensors are not read yet.
        size: size of the file in bytes.

    Raises:
        ReadError: the file holds no network of the `robustness` library.
    """
    found = ResNetDescription("a checkpoint of the robustness library", size)
    state = _state(content)
    found.tensors = {
        key.removeprefix(PREFIX): value
        for key, value in state.items()
        if key.startswith(PREFIX) and not key.endswith(COUNTERS)
    }
    found.normaliser = {name: state[key] for name in NORMALISER if (key := f"module.normalizer.{name}") in state}
    if any(math.prod(tensor.shape) != 3 for tensor in found.normaliser.values()):
        found.problems.append("its input normalisation does not have three channels")
    head = found.tensors.get("fc.bias")
    if head is None or len(head.shape) != 1 or not 2 <= head.shape[0] <= MOST_CLASSES:
        found.problems.append("it holds no ResNet-50 classifier")
        return found
    found.classes = head.shape[0]
    with torch.device("meta"):
        wanted = resnet50(weights=None, num_classes=found.classes).state_dict()
    found.compare({key: value for key, value in wanted.items() if not key.endswith(COUNTERS)})
    return found


def _state(content: Any) -> dict[str, LazyTensor]:
    if isinstance(content, dict):
        for entry in ("model", "state_dict"):
            state = content.get(entry)
            if isinstance(state, dict):
                found = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, LazyTensor)}
                if any(key.startswith(PREFIX) for key in found):
                    return found
    raise ReadError(f"it has no network under {PREFIX}…")


def names(count: int) -> list[tuple[str, str]]:
    """Id and plain name of each class: ImageNet's for 1,000 classes, otherwise numbers."""
    plain = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    if count != len(plain):
        return [(f"class-{i}", f"class {i}") for i in range(count)]
    return [(f"imagenet-{i}", name) for i, name in enumerate(plain)]
