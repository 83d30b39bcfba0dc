"""Image classifiers: the embedded residual network, its file format, and class names.

A `Classifier` maps pictures [B, 3, R, R] in [−1, 1], with any R, to logits.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ilo.classifiers import resnet
from ilo.classifiers.resnet import ResNet50
from ilo.operators.resizing import resize
from ilo.settings import SettingsError
from ilo.text.words import shown
from ilo.weights import cache, registry
from ilo.weights.budget import Budget
from ilo.weights.description import Description
from ilo.weights.find import find, reading
from ilo.weights.lazy import Extent, ReadError
from ilo.weights.safefile import parse_json, read_header
from ilo.weights.torchfile import read_torch

# Mean and standard deviation of the training pictures per channel, on [0, 1]: the usual ImageNet values.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


EMBEDDED = ("robust64", "standard64")
PUBLISHED = (".ckpt", ".pt")
NEAREST = 5  # number of similar names offered for an unknown one
LONGEST_NAME = 200  # characters; searching for similar names takes longer for long names


class ClassifierError(ValueError):
    """A classifier's file cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Shape:
    """Shape of a residual network."""

    classes: int
    widths: tuple[int, ...] = (48, 96, 192, 384)  # channels of each stage; each stage after the first halves the side
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    size: int = 64  # pixels per side of the training pictures

    def __post_init__(self) -> None:
        tuples = isinstance(self.widths, tuple) and isinstance(self.blocks, tuple)
        sound = tuples and len(self.widths) == len(self.blocks) and 1 <= len(self.widths) <= 6
        sound = sound and all(type(n) is int and 1 <= n <= 16 for n in self.blocks)
        sound = sound and all(type(n) is int and 1 <= n <= 4096 for n in (self.classes, *self.widths))
        if not sound or type(self.size) is not int or not 16 <= self.size <= 512:
            parts = ", ".join(f"{field.name} {shown(getattr(self, field.name), 40)}" for field in fields(self))
            raise ValueError(f"{parts} are not the shape of a classifier")


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
    """Stem of stride 2, stages of residual blocks, global average pooling, one linear layer.

    SiLU replaces ReLU: smooth activations help robust training (Xie et al. 2020, "Smooth Adversarial Training").
    """

    mean: Tensor
    deviation: Tensor

    @property
    def size(self) -> int:
        """Pixels per side of the training pictures."""
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
        # MEAN and DEVIATION apply to (x + 1) / 2; these are the same values for x on [−1, 1].
        # They are always on the CPU, even in a network built on the meta device, because no file holds them.
        here = torch.device("cpu")
        self.register_buffer("mean", 2 * torch.tensor(MEAN, device=here)[:, None, None] - 1, persistent=False)
        self.register_buffer("deviation", 2 * torch.tensor(DEVIATION, device=here)[:, None, None], persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after each stage, of pictures [B, 3, H, W] in [−1, 1]."""
        x = F.silu(self.norm(self.stem((x - self.mean) / self.deviation)))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def fold(self) -> ResidualNetwork:
        """Fold each batch normalisation into the convolution before it, for inference only. Returns self."""
        self.eval()
        self.stem, self.norm = _fused(self.stem, self.norm), nn.Identity()
        for block in self.modules():
            if isinstance(block, Block):
                block.conv0, block.norm0 = _fused(block.conv0, block.norm0), nn.Identity()
                block.conv1, block.norm1 = _fused(block.conv1, block.norm1), nn.Identity()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of pictures [B, 3, H, W] in [−1, 1]."""
        return self.head(self.features(x)[-1].mean((2, 3)))


def _fused(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


class Classifier(nn.Module):
    """A trained network with its class names; the network is frozen and folded in place.

    Pictures are clamped to [−1, 1], as they are shown, but gradients pass through the clamp.
    """

    def __init__(
        self, network: ResidualNetwork | ResNet50, name: str, path: Path, classes: list[tuple[str, str]], about: dict
    ):
        super().__init__()
        self.network = network.fold().requires_grad_(False).to(memory_format=torch.channels_last)
        self.name, self.path, self.about = name, path, about
        self.wnids = tuple(wnid for wnid, _ in classes)
        self.synonyms = tuple(tuple(part.strip() for part in names.split(",")) for _, names in classes)

    @property
    def names(self) -> tuple[str, ...]:
        """A plain name for each class."""
        return tuple(synonyms[0] for synonyms in self.synonyms)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weights file, for the recipe."""
        return cache.sha256(self.path)

    def index(self, name: str) -> int:
        """Index of the class with this name, synonym or WordNet id, ignoring case.

        Raises:
            SettingsError: there is no such class; the message lists the five most similar names.
        """
        wanted = " ".join(str(name).lower().split())
        known = {synonym.lower(): i for i, synonyms in enumerate(self.synonyms) for synonym in synonyms}
        known |= {wnid: i for i, wnid in enumerate(self.wnids)}
        # A plain name takes precedence over another class's synonym.
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
        """Clamp, resize and move pictures for the network: [B, 3, R, R] → [B, 3, size, size], with full gradients."""
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
        """For each picture, the most probable classes with their probabilities, in descending order."""
        found = self(images).softmax(1).topk(min(count, len(self.wnids)), dim=1)
        return [
            [(self.names[i], p) for p, i in zip(values, indices, strict=True)]
            for values, indices in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]


def load(name: str = "robust64", device: torch.device | str = "cpu") -> Classifier:
    """Load a classifier by its id, or from a file.

    Args:
        name: registry id, or path of a file: .safetensors as written by `save`, or a published robust ResNet-50
            (`.ckpt`, `.pt`).
        device: device for the weights.

    Raises:
        ClassifierError: the id or file does not exist, or the file is truncated or inconsistent.
    """
    path = find(name, "classifier", (".safetensors", *PUBLISHED), ClassifierError)
    with reading(path, ClassifierError):
        data = Extent.of_file(path)
        if path.suffix in PUBLISHED:
            checkpoint = resnet.describe(read_torch(data, Budget.of(data)), len(data))
            network: ResidualNetwork | ResNet50 = checkpoint.read(MEAN, DEVIATION)
            classes, about = resnet.names(checkpoint.classes), {}
            title = name if name in registry.BY_ID else path.stem
        else:
            found = describe(data)
            network, classes, about, title = found.read(), found.classes, found.about, path.stem
        return Classifier(network, title, path, classes, about).to(device)


@dataclass
class ClassifierDescription(Description):
    """A classifier's weights file in the studio's own format, before loading."""

    shape: Shape | None = None
    classes: list[tuple[str, str]] = field(default_factory=list)  # WordNet id and names

    @property
    def role(self) -> str:
        if self.shape is None:
            return ""
        return f"a classifier of {self.shape.classes:,} classes for pictures of {self.shape.size} pixels"

    def read(self) -> ResidualNetwork:
        """Read the network.

        Raises:
            ReadError: the description has problems, or numbers are missing or not finite.
        """
        weights = self.weights()
        if self.shape is None:
            raise ReadError("it does not describe a classifier of the studio")
        with torch.device("meta"):
            network = ResidualNetwork(self.shape)
        network.load_state_dict(weights, strict=False, assign=True)
        return network


def describe(data: Extent) -> ClassifierDescription:
    """Describe a safetensors file, which is a classifier if its metadata has `about` as written by `save`.

    Raises:
        ReadError: the file is not a complete safetensors file.
    """
    tensors, metadata = read_header(data)
    found = ClassifierDescription("safetensors in the studio's own format", len(data), tensors)
    try:
        about = parse_json(metadata["about"])
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in about["shape"].items()
        }
        if sorted(given) != ["blocks", "classes", "size", "widths"]:
            raise ValueError(f"its shape has {shown(sorted(given))}")
        found.shape = Shape(**given)
        found.classes = [(wnid, names) for wnid, names in about["classes"]]
        found.about = about
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = "about is missing" if isinstance(error, KeyError) else shown(str(error), 200)
        found.problems.append(f"it does not describe a classifier of the studio ({reason})")
        return found
    if not all(_is_name(word) for pair in found.classes for word in pair):
        found.problems.append(f"its classes need an id and a name each, of 1 to {LONGEST_NAME} printable characters")
    if len(found.classes) != found.shape.classes:
        found.problems.append(f"it names {len(found.classes)} classes and has {found.shape.classes} outputs for them")
    with torch.device("meta"):
        state = ResidualNetwork(found.shape).state_dict()
    found.compare({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")})
    return found


def _is_name(word: Any) -> bool:
    return isinstance(word, str) and 0 < len(word) <= LONGEST_NAME and word.isprintable()


def save(network: ResidualNetwork, path: Path, classes: list[tuple[str, str]], about: dict[str, Any]) -> None:
    """Write a network in float16, with its classes (WordNet id, name) and the entries of `about` as JSON metadata."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    text = {"shape": asdict(network.shape), "classes": classes, **about}
    save_file(tensors, path, {"about": json.dumps(text, ensure_ascii=False)})
