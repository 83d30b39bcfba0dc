"""Grow a trained generator: make the start of a training with pictures of twice the side from a training's networks.

    python -m training.grow --state STATE --data DATA --channels 24 --out FILE
    python -m training.train_generator --data DATA --work WORK --start FILE --channels 192 192 128 64 32 24

STATE is the checkpoint.pt of a training, or a file for its `--start`. FILE is such a file; the second command, which
the first one prints, continues from it. DATA holds utkface128-train-*.tar; the decoded pictures are kept beside FILE.

The generator keeps all of its weights and gets one more block, whose part of the picture begins faint: at first it
draws its old pictures, smoothly enlarged. The discriminator keeps all but its first layer, `rgb`. Its new `rgb` and
block are fitted to hand on, for real pictures with noise, what the old `rgb` made of the half-sized picture, so that it
begins with its old judgement. Progressive growing (Karras et al. 2018) fades both in during the training instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ilo.operators.resizing import resize
from ilo.priors.stylegan2.network import MOST_CHANNELS, Config, Generator
from training.discriminator import Conv, Discriminator
from training.pictures import read_faces
from training.state import State, Tensors, read_state, write_state

BETAS = (0.5, 0.99)  # betas of Adam
STREAM = 1_000_003  # sets the pictures and their noise apart from the new weights, which are drawn with the seed itself
EXAMINED = 64  # pictures with which the fit is measured at the end
REPORT_EVERY = 50  # steps between two lines about the fit
Report = Callable[[int, float], None]


def _option(default: float, least: float, most: float, about: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "help": about})


@dataclass(frozen=True)
class Growth:
    """How to grow.

    Raises:
        ValueError: a value is out of its range.
    """

    channels: int = _option(24, 1, MOST_CHANNELS, "channels of both networks at the new resolution")
    rgb: float = _option(0.05, 0, 1, "scale of the new ToRGB's weights; 1: the usual one")
    steps: int = _option(300, 0, 1_000_000, "steps of Adam that fit the discriminator's new layers")
    batch: int = _option(16, 1, 4096, "pictures per step")
    lr: float = _option(0.01, 0, 1, "learning rate, which falls to 0 over the second half of the steps")
    noise: float = _option(0.1, 0, 1, "largest standard deviation of the noise on the pictures, which are in [-1, 1]")
    seed: int = _option(1, 0, 2**32 - 1, "seed of the new weights, the choice of the pictures and their noise")

    def __post_init__(self) -> None:
        for option in fields(self):
            value, least, most = getattr(self, option.name), option.metadata["least"], option.metadata["most"]
            if not least <= value <= most:
                raise ValueError(f"{option.name} is {value}; allowed is a number from {least} to {most}")


def grown(config: Config, channels: int) -> Config:
    """The architecture with one more block of `channels`.

    Raises:
        ValueError: a generator cannot be that large.
    """
    side = 2 * config.img_resolution
    return replace(config, img_resolution=side, channels=config.channels | {side: channels})


def grow(
    state: State, pictures: Tensor, growth: Growth, report: Report = lambda step, error: None
) -> tuple[State, float]:
    """Grow the networks of a training.

    Args:
        state: networks for pictures [B, 3, R, R].
        pictures: real pictures of the new side, uint8 [N, 2R, 2R, 3].
        growth: how to grow.
        report: called with each step of the fit and its relative error.

    Returns:
        Networks for pictures [B, 3, 2R, 2R], and the relative error that the fit of the discriminator reached.

    Raises:
        ValueError: the pictures have another shape, or the generator cannot be larger.
    """
    config = grown(state.config, growth.channels)
    side = config.img_resolution
    if pictures.shape[1:] != (side, side, 3) or not len(pictures):
        raise ValueError(
            f"the pictures have the shape {list(pictures.shape)}; to grow to {side} pixels it must be "
            f"[N, {side}, {side}, 3], N at least 1"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(growth.seed)
        generator, discriminator = Generator(config).state_dict(), Discriminator(config.channels)
        old = Discriminator(state.config.channels)
    generator[f"synthesis.b{side}.torgb.weight"] *= growth.rgb
    discriminator.load_state_dict(discriminator.state_dict() | _without_rgb(state.discriminator))
    old.load_state_dict(state.discriminator)
    error = fit(discriminator, old.rgb, pictures, growth, report)
    made = State(
        generator | state.generator, generator | state.average, discriminator.state_dict(), images=state.images
    )
    return made, error


def fit(discriminator: Discriminator, rgb: Conv, pictures: Tensor, growth: Growth, report: Report) -> float:
    """Fit the first layers of a discriminator to what another one's `rgb` makes of the half-sized picture.

    Args:
        discriminator: the discriminator for pictures [B, 3, 2R, 2R], of which `rgb` and the first block are modified.
        rgb: first layer of the discriminator for pictures [B, 3, R, R].
        pictures: real pictures, uint8 [N, 2R, 2R, 3].

    Returns:
        The relative error that was reached, on pictures and noise drawn anew.
    """
    side = discriminator.sizes[0]
    layers = nn.ModuleList(getattr(discriminator, name) for name in ("rgb", f"a{side}", f"b{side}", f"s{side}"))
    adam = torch.optim.Adam(layers.parameters(), betas=BETAS)
    rng = torch.Generator().manual_seed(growth.seed + STREAM)
    for step in range(growth.steps):
        adam.param_groups[0]["lr"] = growth.lr * min(1.0, 2 * (1 - step / growth.steps))
        loss = relative_error(discriminator, rgb, noisy(pictures, growth.batch, growth.noise, rng))
        adam.zero_grad()
        loss.backward()
        adam.step()
        report(step, loss.item())
    with torch.no_grad():
        return relative_error(discriminator, rgb, noisy(pictures, EXAMINED, growth.noise, rng)).item()


def relative_error(discriminator: Discriminator, rgb: Conv, images: Tensor) -> Tensor:
    """How far the first layers of a discriminator are from what another one's `rgb` makes of the half-sized picture.

    Args:
        discriminator: the discriminator for pictures [B, 3, 2R, 2R].
        rgb: first layer of the discriminator for pictures [B, 3, R, R].
        images: pictures [B, 3, 2R, 2R].

    Returns:
        Mean square [] of the difference of their features [B, C, R, R], over the mean square of what `rgb` makes.
    """
    with torch.no_grad():
        wanted = rgb(resize(images, images.shape[-1] // 2))
    return (discriminator.entry(images) - wanted).square().mean() / wanted.square().mean()


def noisy(pictures: Tensor, count: int, most: float, rng: torch.Generator) -> Tensor:
    """Draw from uint8 pictures [N, S, S, 3]: [count, 3, S, S] in [−1, 1], each with noise of its own σ up to `most`."""
    chosen = pictures[torch.randint(len(pictures), (count,), generator=rng)]
    images = chosen.permute(0, 3, 1, 2).float() / 127.5 - 1
    sigma = most * torch.rand(count, 1, 1, 1, generator=rng)
    return images + sigma * torch.randn(images.shape, generator=rng)


def _without_rgb(discriminator: Tensors) -> Tensors:
    return {name: tensor for name, tensor in discriminator.items() if not name.startswith("rgb.")}


def _print(step: int, error: float) -> None:
    if step % REPORT_EVERY == 0:
        print(f"step {step}: relative error {error:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="networks to grow")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="state file to write")
    for option in fields(Growth):
        about = f"{option.metadata['help']} ({option.default})"
        parser.add_argument(f"--{option.name}", type=type(option.default), default=option.default, help=about)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    try:
        growth = Growth(**{option.name: getattr(args, option.name) for option in fields(Growth)})
        state = read_state(args.state)
        if args.out.resolve() == args.state.resolve():
            raise ValueError(f"--out and --state are both {args.out}; they must differ, to keep the trained state")
        side = grown(state.config, growth.channels).img_resolution
        args.out.parent.mkdir(parents=True, exist_ok=True)
        pictures = torch.from_numpy(read_faces(args.data, side, args.out.parent))
        made, error = grow(state, pictures, growth, _print)
    except ValueError as wrong:
        parser.error(str(wrong))
    write_state(made, args.out)
    print(f"From {side // 2} to {side} pixels. The discriminator's new layers have a relative error of {error:.4f}.")
    print("Continue, with --work WORK and any other options:")
    print(f"python -m training.train_generator --data {args.data} --start {args.out} {made.options}")


if __name__ == "__main__":
    main()
