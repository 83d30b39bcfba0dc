"""Image classifiers: the embedded ones' small residual network, its files, and the names of what it knows.

A `Classifier` takes pictures as the rest of the studio has them, [B, 3, R, R] in [−1, 1] of any R, and gives logits.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ilo import cache, download, registry, resnet
from ilo.download import DownloadError
from ilo.operators.base import resize
from ilo.resnet import ResNet50
from ilo.settings import SettingsError
from ilo.unpickle import UnpickleError
from ilo.words import shown

# Of the training pictures on [0, 1], as ImageNet's classifiers have them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


EMBEDDED = {name: registry.BY_ID[name].path for name in ("robust64", "standard64")}
PUBLISHED = (".ckpt", ".pt")
NEAREST = 5  # names that are offered for an unknown one
LONGEST_NAME = 200  # characters; the search for near ones takes the longer, the longer a name is


class ClassifierError(ValueError):
    """A classifier's file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Shape:
    """Shape of a residual network."""

    classes: int
    widths: tuple[int, ...] = (48, 96, 192, 384)  # channels of each stage; each stage after the first halves the side
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    size: int = 64  # pixels per side that it was trained at

    def __post_init__(self) -> None:
        sound = len(self.widths) == len(self.blocks) and 1 <= len(self.widths) <= 6
        sound = sound and all(1 <= n <= 64 for n in self.blocks)
        if not sound or not all(1 <= n <= 4096 for n in (self.classes, self.size, *self.widths)):
            raise ValueError(f"{self} is not the shape of a classifier")


class Block(nn.Module):
    """x → act(shortcut(x) + conv(act(conv(x)))), with batch normalisation (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm0: nn.Module = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if stride > 1 or inputs != outputs else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm0(self.conv0(x)))
        y = self.norm1(self.conv1(y))
        if self.shortcut is not None:
            x = self.shortcut(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        return F.silu(x + y)


class ResidualNetwork(nn.Module):
    """Stem of stride 2, stages of residual blocks, mean over the pixels, one linear layer.

    SiLU instead of ReLU: robust training gains by a smooth activation (Xie et al. 2020, "Smooth Adversarial Training").
    """

    mean: Tensor
    deviation: Tensor

    @property
    def size(self) -> int:
        """Pixels per side that it was trained at."""
        return self.shape.size

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        first, *later = shape.widths
        self.stem = nn.Conv2d(3, first, 4, 2, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(first)
        self.stages = nn.ModuleList()
        inputs = first
        for width, count, stride in zip(shape.widths, shape.blocks, [1, *[2] * len(later)], strict=True):
            blocks = [Block(inputs if i == 0 else width, width, stride if i == 0 else 1) for i in range(count)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        self.head = nn.Linear(inputs, shape.classes)
        # On [−1, 1]: (x + 1) / 2 is what the mean and the deviation are given for.
        self.register_buffer("mean", 2 * torch.tensor(MEAN)[:, None, None] - 1, persistent=False)
        self.register_buffer("deviation", 2 * torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after each stage, of pictures [B, 3, H, W] in [−1, 1]."""
        x = F.silu(self.norm(self.stem((x - self.mean) / self.deviation)))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def folded(self) -> ResidualNetwork:
        """The same function with every normalisation in the convolution before it: for use, not for training."""
        network = copy.deepcopy(self).eval()
        network.stem, network.norm = _fused(network.stem, network.norm), nn.Identity()
        for block in network.modules():
            if isinstance(block, Block):
                block.conv0, block.norm0 = _fused(block.conv0, block.norm0), nn.Identity()
                block.conv1, block.norm1 = _fused(block.conv1, block.norm1), nn.Identity()
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, 3, H, W] in [−1, 1]."""
        return self.head(self.features(x)[-1].mean((2, 3)))


def _fused(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


class Classifier(nn.Module):
    """A trained network with the names of its classes; frozen.

    Pictures are compared as they are shown: values beyond [−1, 1] count as the limit, but their gradient passes.
    """

    def __init__(
        self, network: ResidualNetwork | ResNet50, name: str, path: Path, classes: list[tuple[str, str]], about: dict
    ):
        super().__init__()
        self.network = network.folded().requires_grad_(False).to(memory_format=torch.channels_last)
        self.name, self.path, self.about = name, path, about
        self.wnids = tuple(wnid for wnid, _ in classes)
        self.synonyms = tuple(tuple(part.strip() for part in names.split(",")) for _, names in classes)

    @property
    def names(self) -> tuple[str, ...]:
        """A plain name for each class."""
        return tuple(synonyms[0] for synonyms in self.synonyms)

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights file, for the recipe."""
        return cache.sha256(self.path)

    def index(self, name: str) -> int:
        """The number of the class of this name, synonym or WordNet id; letters' case does not matter.

        Raises:
            SettingsError: there is none; the message has the five nearest names.
        """
        wanted = " ".join(str(name).lower().split())
        known = {synonym.lower(): i for i, synonyms in enumerate(self.synonyms) for synonym in synonyms}
        known |= {wnid: i for i, wnid in enumerate(self.wnids)}
        # A plain name outranks a synonym of another class.
        known |= {plain.lower(): i for i, plain in enumerate(self.names)}
        if wanted in known:
            return known[wanted]
        if len(wanted) > LONGEST_NAME:
            raise SettingsError(f"There is no class {shown(name)}; give a name of at most {LONGEST_NAME} characters.")
        near: list[str] = []
        for match in difflib.get_close_matches(wanted, known, n=len(known), cutoff=0.0):
            if self.names[known[match]] not in near:
                near.append(self.names[known[match]])
        raise SettingsError(f"There is no class {shown(name)}; the nearest are {', '.join(near[:NEAREST])}.")

    def prepare(self, images: Tensor) -> Tensor:
        """[B, 3, R, R] → [B, 3, size, size] where and as the network wants them, differentiable everywhere."""
        images = images.to(self.network.mean.device)
        images = images + (images.clamp(-1, 1) - images).detach()
        size = self.network.size
        return images if images.shape[-1] == size else resize(images, size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, 3, R, R] in [−1, 1]."""
        return self.network(self.prepare(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations [B, C, h, w] at several depths."""
        return self.network.features(self.prepare(images))

    @torch.no_grad()
    def top(self, images: Tensor, count: int = 5) -> list[list[tuple[str, float]]]:
        """For each picture, the most probable classes and their probabilities, the first one first."""
        found = self(images).softmax(1).topk(min(count, len(self.wnids)), dim=1)
        return [
            [(self.names[i], p) for p, i in zip(values, indices, strict=True)]
            for values, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]


def load(name: str = "robust64", device: torch.device | str = "cpu") -> Classifier:
    """An embedded classifier by its id, or one from a file.

    Args:
        name: an id of the registry; or the path of a .safetensors file that `save` has written, or of a published
            robust ResNet-50 (`.ckpt`, `.pt`).
        device: where the weights go.

    Raises:
        ClassifierError: no such id or file, a truncated file, or weights that do not fit its own shape and classes.
    """
    path = _find(name)
    if path.suffix in PUBLISHED:
        return _published(path, name if name in registry.BY_ID else path.stem).to(device)
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
        shape = about["shape"]
        shape = Shape(int(shape["classes"]), tuple(shape["widths"]), tuple(shape["blocks"]), int(shape["size"]))
        classes = [(str(wnid), str(names)) for wnid, names in about["classes"]]
    except (SafetensorError, OSError) as error:
        raise ClassifierError(
            f"{path.name}: not a complete safetensors file ({error}). Fetch or copy it again."
        ) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ClassifierError(f"{path.name}: it does not describe a classifier of the studio ({error!r}).") from None
    head = tensors.get("head.bias")
    if head is None or not len(classes) == shape.classes == len(head):
        found = "no" if head is None else len(head)
        raise ClassifierError(
            f"{path.name}: it names {len(classes)} classes and has {found} outputs for them; the numbers must be equal."
        )
    with torch.device("meta"):  # shapes without memory, until it is known that the file fills them
        described = ResidualNetwork(shape).state_dict()
    wanted = {key: tensor.shape for key, tensor in described.items() if not key.endswith("num_batches_tracked")}
    if wanted.keys() != tensors.keys() or not all(t.isfinite().all() for t in tensors.values()):
        raise ClassifierError(f"{path.name}: its tensors are not those of the network that it describes.")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key]:
            raise ClassifierError(
                f"{path.name}: {key} has shape {list(tensor.shape)}; what it describes has {list(wanted[key])}."
            )
    network = ResidualNetwork(shape)
    network.load_state_dict(tensors, strict=False)
    return Classifier(network, path.stem, path, classes, about).to(device)


def _find(name: str) -> Path:
    """The file of a classifier, by id or path."""
    known = registry.ids("classifier")
    if name in EMBEDDED:
        path = EMBEDDED[name]
    elif name in known:
        try:
            return download.checked(registry.BY_ID[name])
        except DownloadError as error:
            raise ClassifierError(str(error)) from None
    elif (path := Path(name)).suffix not in (".safetensors", *PUBLISHED):
        raise ClassifierError(f"There is no classifier {name!r}; known are {', '.join(known)}.")
    if not os.path.isfile(path):  # False as well where one may not look
        raise ClassifierError(f"{path.name}: there is no such classifier file. Known are {', '.join(known)}.")
    return path


def _published(path: Path, name: str) -> Classifier:
    try:
        network = resnet.read(path, MEAN, DEVIATION)
    except (UnpickleError, OSError) as error:
        raise ClassifierError(f"{path.name}: {error}.") from None
    return Classifier(network, name, path, resnet.names(network.net.fc.out_features), {})


def save(network: ResidualNetwork, path: Path, classes: list[tuple[str, str]], about: dict[str, Any]) -> None:
    """Write a network in float16 with its classes (WordNet id, name) and whatever `about` says of it, as JSON."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    text = {"shape": asdict(network.shape), "classes": classes, **about}
    save_file(tensors, path, {"about": json.dumps(text, ensure_ascii=False)})
