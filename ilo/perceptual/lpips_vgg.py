"""LPIPS (Zhang et al. 2018) on VGG-16, whose weights have to be downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor

from ilo.perceptual.base import Perceptual, unit
from ilo.weights import download, registry
from ilo.weights.download import DownloadError


class LpipsVgg(Perceptual):
    """LPIPS (Zhang et al. 2018) on VGG-16, through the `lpips` package."""

    name, size, fills_holes = "lpips-vgg", 256, True  # it works best at this size (paper §4.2)

    def __init__(self, backbone: Path, device: torch.device | str = "cpu"):
        """Load the network.

        Args:
            backbone: torchvision's VGG-16 weights (a state dict, of which the `features.*` entries are read).
            device: device for the weights.

        Raises:
            ValueError: the file does not hold the VGG-16 features.
        """
        from lpips import LPIPS

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips names torchvision arguments that are deprecated
            self._net = LPIPS(net="vgg", pnet_rand=True, verbose=False)
        try:
            weights = torch.load(backbone, map_location="cpu", weights_only=True)
            weights = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
            # lpips cuts the features into slices and keeps torchvision's layer numbers inside them.
            for part in (getattr(self._net.net, f"slice{i}") for i in range(1, 6)):
                part.load_state_dict(
                    {k: v for k, v in weights.items() if k.split(".")[0] in dict(part.named_children())}
                )
        except Exception as error:
            raise ValueError(
                f"{backbone.name}: not the weights of VGG-16 ({error}). Remove or replace the file."
            ) from error
        self._net.eval().requires_grad_(False).to(device)

    def features(self, images: Tensor) -> list[Tensor]:
        return [unit(x) for x in self._net.net(self._net.scaling_layer(images))]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        pairs = zip(self._net.lins, a, b, strict=True)
        return torch.stack([linear((x - y).square()).mean((1, 2, 3)) for linear, x, y in pairs]).sum(0)


def lpips_backbone() -> Path | None:
    """The VGG-16 file from the registry's cache or torchvision's download folder; None if it is in neither.

    Raises:
        ValueError: the cached file fails its hash check.
    """
    entry = registry.BY_ID["lpips-vgg"]
    if entry.here:
        try:
            return download.checked(entry)
        except DownloadError as error:
            raise ValueError(str(error)) from None
    path = Path(torch.hub.get_dir()) / "checkpoints" / entry.file
    return path if path.is_file() else None
