"""The published robust ImageNet classifiers: ResNet-50 (He et al. 2016) as `robustness` saves it (Engstrom et al.
2019)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.resnet import Bottleneck

from ilo.torchfile import mapped, read_torch
from ilo.unpickle import LazyTensor, UnpickleError

PREFIX = "module.model."  # of the network itself; what attacks it has a copy under another one
COUNTERS = "num_batches_tracked"


class ResNet50(nn.Module):
    """torchvision's network for pictures in [−1, 1]."""

    size = 224  # pixels per side that it was trained at
    mean: Tensor
    deviation: Tensor

    def __init__(self, classes: int, mean: tuple[float, ...], deviation: tuple[float, ...]):
        super().__init__()
        self.net = resnet50(weights=None, num_classes=classes)
        self.register_buffer("mean", 2 * torch.tensor(mean)[:, None, None] - 1, persistent=False)
        self.register_buffer("deviation", 2 * torch.tensor(deviation)[:, None, None], persistent=False)

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

    def folded(self) -> ResNet50:
        """The same function with every normalisation in the convolution before it."""
        made = copy.deepcopy(self).eval()
        net = made.net
        net.conv1, net.bn1 = fuse_conv_bn_eval(net.conv1, net.bn1), nn.Identity()
        for block in net.modules():
            if isinstance(block, Bottleneck):
                block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), nn.Identity()
                block.conv2, block.bn2 = fuse_conv_bn_eval(block.conv2, block.bn2), nn.Identity()
                block.conv3, block.bn3 = fuse_conv_bn_eval(block.conv3, block.bn3), nn.Identity()
                if block.downsample is not None:
                    block.downsample = nn.Sequential(fuse_conv_bn_eval(*block.downsample))
        return made


def read(path: Path, mean: tuple[float, ...], deviation: tuple[float, ...]) -> ResNet50:
    """The network of a checkpoint; nothing of the file is executed.

    Raises:
        UnpickleError: it is damaged, names what no checkpoint needs, or holds no ResNet-50.
        OSError: it cannot be read.
    """
    content = read_torch(mapped(path))
    state = _state(content)
    head = state.get("fc.bias")
    if head is None or len(head.shape) != 1 or not 2 <= head.shape[0] <= 100_000:
        raise UnpickleError("it holds no ResNet-50 for classes")
    network = ResNet50(head.shape[0], mean, deviation)
    wanted = network.net.state_dict()
    missing = sorted(key for key in wanted.keys() - state.keys() if not key.endswith(COUNTERS))
    unknown = sorted(state.keys() - wanted.keys())
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} does not belong there"
        raise UnpickleError(f"it is no ResNet-50 ({what})")
    for key, tensor in state.items():
        if torch.Size(tensor.shape) != wanted[key].shape:
            raise UnpickleError(f"{key} has shape {list(tensor.shape)}; a ResNet-50 has {list(wanted[key].shape)}")
    tensors = {key: tensor.read() for key, tensor in state.items()}
    broken = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise UnpickleError(f"{broken[0]} holds values that are not finite numbers")
    network.net.load_state_dict(tensors, strict=False)
    return network


def _state(content: Any) -> dict[str, LazyTensor]:
    if isinstance(content, dict):
        for entry in ("model", "state_dict"):
            state = content.get(entry)
            if isinstance(state, dict):
                found = {
                    key.removeprefix(PREFIX): value
                    for key, value in state.items()
                    if isinstance(key, str) and key.startswith(PREFIX) and isinstance(value, LazyTensor)
                }
                if found:
                    return found
    raise UnpickleError(f"it has no network under {PREFIX}…")


def names(count: int) -> list[tuple[str, str]]:
    """Identity and plain name of each class: ImageNet's for 1,000 of them, numbers for others."""
    plain = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    if count != len(plain):
        return [(f"class-{i}", f"class {i}") for i in range(count)]
    return [(f"imagenet-{i}", name) for i, name in enumerate(plain)]
