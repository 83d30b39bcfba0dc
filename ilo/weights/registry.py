"""The registry of models known by name: where each file comes from and on what terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ilo.weights import cache

ASSETS = Path(__file__).parents[2] / "assets"
YUNET_FILE = "face_detection_yunet_2023mar.onnx"

Kind = Literal["generator", "classifier", "perceptual", "detector"]


@dataclass(frozen=True)
class Embedded:
    """The source of a file that is part of the studio."""

    @property
    def address(self) -> str:
        return "part of the studio"


@dataclass(frozen=True)
class Url:
    """The source of a file at a web address."""

    address: str


@dataclass(frozen=True)
class Hub:
    """The source of a file in a Hugging Face Hub repository, at a fixed revision, so that it never changes."""

    repository: str
    file: str
    revision: str
    endpoint: str = "https://huggingface.co"

    @property
    def address(self) -> str:
        return f"{self.endpoint}/{self.repository}/resolve/{self.revision}/{self.file}"


@dataclass(frozen=True)
class Entry:
    """One model: its file, and what is known about it before it is downloaded."""

    id: str
    kind: Kind
    title: str
    file: str  # file name in the studio's assets or in the cache folder
    source: Embedded | Url | Hub
    terms: str  # licence and what it allows, in one line
    resolution: int | None = None  # pixels per side of a generator's or classifier's pictures
    size: int | None = None  # size of the file in bytes; None: not published
    sha256: str = ""  # hash or its beginning; empty: not published, so the hash of the first download is kept
    alignment: str = ""  # face alignment of a generator's pictures: "ffhq", or "file" if the weights file states it
    presets: tuple[str, str] = ("Quick", "Paper")  # suggested presets on a CPU and on a GPU
    tested: str = ""  # how reading the file was tested, if the published file itself was not available

    @property
    def path(self) -> Path:
        """Path of the file once it is here."""
        return (ASSETS if isinstance(self.source, Embedded) else cache.folder()) / self.file

    @property
    def here(self) -> bool:
        return self.path.is_file()


_NVIDIA = "NVIDIA Source Code License-NC: research and evaluation only, not for commercial use"
_TRAINED = "For non-commercial research and education, like the pictures it was trained on"
_NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/"


_OFFICIAL = "Tested with network pickles with random weights, written by the original program, but not with this file"
_ROSINALITY = "Tested with checkpoints with random weights, written by the original program, but not with this file"
_ROBUSTNESS = "Tested with checkpoints written by the library's training, but not with this file"
_LAYOUT = "Tested with a file of the same layout with random weights, but not with this file"


def _ffhq(size: int) -> Entry:
    file = f"stylegan2-ffhq-{size}x{size}.pkl"
    return Entry(
        f"ffhq-{size}", "generator", f"StyleGAN2, FFHQ faces, {size} px", file, Url(_NGC + file), _NVIDIA, size,
        alignment="ffhq", tested=_OFFICIAL,
    )  # fmt: skip


ENTRIES = (
    Entry(
        "faces64", "generator", "Faces, 64 px", "faces64.safetensors", Embedded(), _TRAINED, 64, alignment="file",
        presets=("Quick", "Quick"), sha256="db9d573e8bc6211b83b967321f08d6fc55833570f17ee56e5369fcf8a71b3eb3",
    ),
    Entry(
        "robust64", "classifier", "Robust classifier, 100 classes", "robust64.safetensors", Embedded(), _TRAINED, 64,
        sha256="20514faf0c17ead0e26828ad4511921b4ec389628b83fa875aa89b40b60fe587",
    ),
    Entry(
        "standard64", "classifier", "Standard classifier, 100 classes", "standard64.safetensors", Embedded(), _TRAINED,
        64, sha256="c9170de5e6738709c9c37628a00556e998382eba3432d7a88dcd83798cf748f7",
    ),
    Entry(
        "facenet64", "detector", "Face network, which detects faces where YuNet is not here", "facenet64.safetensors",
        Embedded(), _TRAINED, sha256="4c8617825759b5eb26c4f44e599dfd90e509277f5aec55589c05cd2c9eb86f19",
    ),
    _ffhq(256),
    _ffhq(512),
    _ffhq(1024),
    Entry(
        "ffhq-1024-rosinality", "generator", "StyleGAN2, FFHQ faces, 1024 px, as in the paper's own code",
        "stylegan2-ffhq-config-f.pt",
        Hub(
            "akhaliq/OneshotCLIP-stylegan2-ffhq", "stylegan2-ffhq-config-f.pt",
            "024390a9508cb2d124dfaa8ec1caee3ad1a9da59",
        ),
        _NVIDIA, 1024, alignment="ffhq", tested=_ROSINALITY,
    ),
    Entry(
        "robust-resnet50", "classifier", "Robust ResNet-50, 1,000 ImageNet classes, ε = 3", "resnet50_l2_eps3.ckpt",
        Hub("madrylab/robust-imagenet-models", "resnet50_l2_eps3.ckpt", "3f04ac96136001cfe402022100728124cbe3fac5"),
        "MIT; trained on ImageNet, whose pictures are for research and education", 224,
        tested=_ROBUSTNESS,
    ),
    Entry(
        "lpips-vgg", "perceptual", "VGG-16 for the perceptual distance LPIPS", "vgg16-397923af.pth",
        Url("https://download.pytorch.org/models/vgg16-397923af.pth"),
        "BSD-3-Clause; trained on ImageNet, whose pictures are for research and education", sha256="397923af",
        tested=_LAYOUT,
    ),
    Entry(
        "yunet", "detector", "YuNet, which detects faces and their eyes, nose and mouth", YUNET_FILE,
        Hub("opencv/face_detection_yunet", YUNET_FILE, "main"), "MIT: free for any use",
        size=232_589, sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
)  # fmt: skip
BY_ID = {entry.id: entry for entry in ENTRIES}
DEFAULT = "faces64"  # the generator that is used if none is named


def ids(kind: Kind) -> tuple[str, ...]:
    """The ids of all models of a kind."""
    return tuple(entry.id for entry in ENTRIES if entry.kind == kind)
