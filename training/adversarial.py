"""Adversarial training of a StyleGAN2 generator, step by step; it can be stopped and resumed at any step.

It uses the non-saturating logistic loss with lazy R1 (Mescheder et al. 2018; Karras et al. 2020), adaptive
augmentation, and an average of the generator's weights. All networks are updated together after one forward pass each:
both losses use the same logits of the generated pictures. Options: style mixing, path-length regularisation, a second
discriminator on a frozen classifier's features, and the Fréchet distance of these features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.priors.stylegan2.network import Config, Generator
from ilo.state import to_uint8
from training.augment import Adaption, augment
from training.discriminator import Discriminator, FeatureDiscriminator
from training.moments import Transport
from training.state import read_state

BETAS = (0.0, 0.99)  # betas of Adam
EMA_RAMP = 0.05  # maximum half-life of the weight average, as a fraction of the pictures shown so far
PATH_DECAY = 0.01  # decay of the running mean path length
GRID = 8  # faces per side of a sample grid
NETWORKS = ("generator", "average", "discriminator")
# The robust classifier that provides features; training/evaluate_generator.py measures with another one.
EYE = Path(__file__).parents[1] / "benchmarks" / "judge64.safetensors"
DEPTHS = 3  # number of its feature maps used, counted from the last
CRITICS = ("discriminator", "judge")
PROGRESS = ("images", "began", "step", "seconds", "anneal", "path_mean")
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Plan:
    """Hyperparameters of a training. All but the architecture may change when a training is resumed."""

    channels: tuple[int, ...] = (192, 192, 128, 64, 32)  # channels of both networks at 4, 8, … px
    latent: int = 256  # size of z and w
    mapping_layers: int = 2
    seed: int = 1
    batch: int = 16
    lr: float = 0.0025  # learning rate of both networks
    warmup: int = 2_000  # images of linear learning-rate warm-up, while Adam estimates its scales
    r1: float = 0.1  # γ, weight of the R1 penalty
    r1_every: int = 16  # steps between R1 penalties
    r1_batch: int = 8  # real pictures per R1 penalty
    path: float = 0.0  # weight of the path-length regulariser; StyleGAN2 uses 2
    path_every: int = 4  # steps between path-length penalties
    mixing: float = 0.0  # probability of style mixing; it makes pictures from a single latent less like the data
    ema: float = 10_000.0  # half-life of the weight average, in images
    features: float = 0.0  # weight of the feature discriminator; 1: equal to the picture discriminator
    moments: float = 0.0  # weight of the Fréchet distance of the classifier's last features
    ada_target: float = 0.6  # target mean sign of D(real); above 1: no augmentation
    ada_images: float = 100_000.0  # images in which p can go from 0 to 1

    @property
    def sizes(self) -> dict[int, int]:
        """Channels by resolution."""
        return {4 * 2**k: count for k, count in enumerate(self.channels)}

    @property
    def side(self) -> int:
        """Pixels per side of the pictures."""
        return max(self.sizes)

    @property
    def config(self) -> Config:
        return Config(self.latent, self.latent, self.side, self.sizes, self.mapping_layers)


def batches(count: int, plan: Plan, first: int) -> Iterator[Tensor]:
    """Iterate over the indices of batches `first`, `first` + 1, … endlessly; each epoch has its own order."""
    per_epoch = count // plan.batch
    epoch, order, step = -1, torch.empty(0), first
    while True:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed * 10_000 + epoch))
        start = step % per_epoch * plan.batch
        yield order[start : start + plan.batch]
        step += 1


def gradient_penalty(discriminator: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """R1 penalty (Mescheder et al. 2018): mean of ‖∇D‖² over inputs [B, C, R, R], differentiable in the weights."""
    leaves = [x.detach().requires_grad_(True) for x in inputs]
    gradients = torch.autograd.grad(discriminator(*leaves).sum(), leaves, create_graph=True)
    return torch.stack([g.square().sum((1, 2, 3)).mean() for g in gradients]).sum()


class Training:
    """The state of a training: both networks, the generator's average, the optimisers and the progress.

    Args:
        plan: hyperparameters.
        path: path of the checkpoint; if it exists, training resumes from it.
        start: state file with the networks of an earlier training, used only if there is no checkpoint.
        device: device of the networks.
        bf16: whether to convolve in bfloat16; regularisers stay in float32.

    Raises:
        ValueError: `start` cannot be read, or its networks have other shapes than the plan's.
    """

    def __init__(self, plan: Plan, path: Path, start: Path | None = None, device: str = "cpu", bf16: bool = False):
        torch.manual_seed(plan.seed)
        self.plan, self.path, self.device, self.bf16 = plan, path, torch.device(device), bf16
        self.generator = self._placed(Generator(plan.config)).train()
        self.discriminator = self._placed(Discriminator(plan.sizes)).train()
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.eye: Classifier | None = None
        self.judge: FeatureDiscriminator | None = None
        self.transport: Transport | None = None
        if plan.features or plan.moments:
            self.eye = self._placed(classifier.load(str(EYE)))
            depths = self._depths(self.eye)
            self.judge = self._placed(FeatureDiscriminator(depths)) if plan.features else None
            self.transport = self._placed(Transport(depths[-1][0])) if plan.moments else None
        self.adaption = Adaption(plan.ada_target, plan.ada_images)
        self.path_mean = torch.zeros([], device=self.device)
        self.images = self.began = 0  # pictures shown in total, and at the start of this training
        self.step, self.seconds = 0, 0.0
        self.anneal: tuple[int, int] | None = None  # image counts between which the learning rate falls to 0
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=plan.lr, betas=BETAS, eps=1e-8, fused=True)
            for name, network in self.networks.items()
            if any(parameter.requires_grad for parameter in network.parameters())
        }
        if path.exists():
            self._load()
        elif start is not None:
            self._begin(start)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks by their names in a checkpoint."""
        found = {name: getattr(self, name) for name in (*NETWORKS, "judge", "transport")}
        return {name: network for name, network in found.items() if network is not None}

    @torch.no_grad()
    def _depths(self, eye: Classifier) -> list[tuple[int, int]]:
        """(channels, side) of each feature map that is used."""
        blank = torch.zeros(1, 3, self.plan.side, self.plan.side, device=self.device)
        return [(x.shape[1], x.shape[2]) for x in eye.features(blank)[-DEPTHS:]]

    def _placed(self, network: N) -> N:
        network.to(self.device)
        return network.to(memory_format=torch.channels_last)

    def _begin(self, path: Path) -> None:
        """Begin with the networks of a state file."""
        state = read_state(path)
        if state.config != self.plan.config:
            raise ValueError(f"the networks in {path} have other shapes than the plan's; theirs are {state.options}")
        for name in NETWORKS:
            getattr(self, name).load_state_dict(getattr(state, name))
        self.images = self.began = state.images

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        for name, network in self.networks.items():
            if name in NETWORKS or name in state:  # the feature discriminator or transport may be new
                network.load_state_dict(state[name])
        for name, stored in state["optimisers"].items():
            if name in self.optimisers:
                self.optimisers[name].load_state_dict(stored)
        for name in PROGRESS:
            setattr(self, name, state[name])
        # The plan determines the target and the speed.
        self.adaption = Adaption(**state["adaption"] | {"target": self.plan.ada_target, "images": self.plan.ada_images})

    def save(self, path: Path | None = None) -> None:
        """Write everything needed to resume, atomically."""
        path = path or self.path
        state: dict[str, Any] = {name: network.state_dict() for name, network in self.networks.items()}
        state |= {name: getattr(self, name) for name in PROGRESS}
        state["optimisers"] = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        state["adaption"] = asdict(self.adaption)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    @property
    def ended(self) -> bool:
        """Whether the learning rate has reached 0."""
        return self.anneal is not None and self.images >= self.anneal[1]

    def rate(self) -> float:
        """Learning rate of the next step: warm-up, constant, then falling to 0 if an end is set."""
        rate = self.plan.lr * min(1.0, (self.images - self.began + self.plan.batch) / max(1, self.plan.warmup))
        if self.anneal is not None:
            begin, end = self.anneal
            rate *= min(1.0, max(0.0, (end - self.images) / max(1, end - begin)))
        return rate

    def latents(self, batch: int, rng: torch.Generator) -> Tensor:
        """Draw ws [B, num_ws, w_dim]; with style mixing, a second latent is used from a random style input on."""
        config = self.generator.config
        z = torch.randn(2 * batch, config.z_dim, generator=rng, device=self.device)
        w, other = self.generator.mapping(z).split(batch)
        first = torch.randint(1, config.num_ws, (batch, 1), generator=rng, device=self.device)
        mixed = torch.rand(batch, 1, generator=rng, device=self.device) < self.plan.mixing
        from_other = (torch.arange(config.num_ws, device=self.device) >= first) & mixed
        return torch.where(from_other[:, :, None], other[:, None], w[:, None])

    def draw(self, ws: Tensor, rng: torch.Generator) -> Tensor:
        """Generate pictures [B, 3, R, R] with new noise maps."""
        sizes = self.generator.config.noise_sizes
        noise = [torch.randn(len(ws), 1, r, r, generator=rng, device=self.device) for r in sizes]
        return self.generator.suffix(None, ws, noise, 0)

    def update(self, pictures: Tensor) -> dict[str, float]:
        """Train both networks for one step on uint8 pictures [B, R, R, 3]. Returns values for the log.

        Raises:
            FloatingPointError: a loss is not finite; no network has been changed.
        """
        plan, p = self.plan, self.adaption.p
        # All randomness depends only on the seed and the step, so no random state has to be stored.
        rng = torch.Generator(self.device).manual_seed(plan.seed * 1_000_003 + self.step)
        real = pictures.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        mirrored = torch.rand(len(real), 1, 1, 1, generator=rng, device=self.device) < 0.5
        real = augment(torch.where(mirrored, real.flip(3), real), p, rng)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            images = self.draw(self.latents(len(real), rng), rng)
            fake_logits, fake_features = self.look(augment(images, p, rng))
            real_logits, real_features = self.look(real)
        loss_g = self._weighted(F.softplus(-fake_logits))
        if self.transport is not None:
            loss_g = loss_g + plan.moments * self.transport(fake_features, real_features)
        loss_d = self._weighted(F.softplus(fake_logits) + F.softplus(-real_logits))
        # The generator's loss leaves no gradients in the discriminators, and vice versa.
        (to_images,) = torch.autograd.grad(loss_g, images, retain_graph=True)
        weights = [w for name, network in self.networks.items() if name in CRITICS for w in network.parameters()]
        gradients = torch.autograd.grad(loss_d, weights)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        images.backward(to_images)
        penalty = real.new_tensor(math.nan)
        if self.step % plan.r1_every == 0:
            penalty = gradient_penalty(self.discriminator, real[: plan.r1_batch])
            (penalty * (0.5 * plan.r1 * plan.r1_every)).backward()
            if self.judge is not None:
                seen = gradient_penalty(self.judge, *self._features(real[: plan.r1_batch]))
                (seen * (0.5 * plan.r1 * plan.r1_every)).backward()
        if plan.path and self.step % plan.path_every == 0:
            (self._path_penalty(rng) * (plan.path * plan.path_every)).backward()
        real_own, fake_own = real_logits[:, 0], fake_logits[:, 0]  # logits of the picture discriminator
        values = [loss_g, loss_d, real_own.mean(), fake_own.mean(), real_own.sign().mean(), penalty]
        numbers = torch.stack([value.detach() for value in values]).tolist()  # a single synchronisation
        found = dict(zip(("loss_g", "loss_d", "real", "fake", "sign", "r1"), numbers, strict=True))
        if not math.isfinite(found["loss_g"] + found["loss_d"]):
            raise FloatingPointError(f"step {self.step}: the losses are {found['loss_g']} and {found['loss_d']}")
        self._step()
        self.adaption.observe(found["sign"], len(real))
        return found | {"p": self.adaption.p}

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Discriminate pictures [B, 3, R, R].

        Returns:
            Logits [B, 1 + heads], where heads belong to the feature discriminator if there is one; and the mean last
            features of the classifier, [B, C], empty if they are not used.
        """
        logits, means = self.discriminator(images), images.new_empty(0)
        if self.eye is not None:
            seen = self._features(images)
            means = seen[-1].float().mean((2, 3))
            if self.judge is not None:
                logits = torch.cat([logits, self.judge(*seen)], 1)
        return logits.float(), means

    def _features(self, images: Tensor) -> list[Tensor]:
        assert self.eye is not None
        return self.eye.features(images)[-DEPTHS:]

    def _weighted(self, losses: Tensor) -> Tensor:
        """Weighted mean of losses [B, logits] over the pictures; all feature heads together have `plan.features`."""
        own, *of_features = losses.mean(0)
        return own + self.plan.features * torch.stack(of_features).mean() if of_features else own

    def _path_penalty(self, rng: torch.Generator) -> Tensor:
        """Path-length regularisation (Karras et al. 2020, eq. 4) on half a batch."""
        ws = self.latents(max(1, self.plan.batch // 2), rng)
        images = self.draw(ws, rng)
        noise = torch.randn(images.shape, generator=rng, device=self.device) / self.plan.side
        (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        self.path_mean = self.path_mean.lerp(lengths.detach().mean(), PATH_DECAY)
        return (lengths - self.path_mean).square().mean()

    def _step(self) -> None:
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = self.rate()
            optimiser.step()
        self.step += 1
        self.images += self.plan.batch
        decay = 0.5 ** (self.plan.batch / min(self.plan.ema, EMA_RAMP * self.images))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - decay)

    @torch.no_grad()
    def grid(self) -> Image.Image:
        """A grid of the same faces every time, from the averaged generator with constant noise."""
        z = torch.randn(GRID**2, self.plan.latent, generator=torch.Generator().manual_seed(0)).to(self.device)
        pixels = np.concatenate([to_uint8(self.average(part)) for part in z.split(16)])
        rows = [np.concatenate(list(row), 1) for row in pixels.reshape(GRID, GRID, *pixels.shape[1:])]
        return Image.fromarray(np.concatenate(rows))
