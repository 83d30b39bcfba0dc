"""A StyleGAN2 generator against its discriminator: one training, step by step, that can stop and go on anywhere.

Non-saturating logistic loss with lazy R1 (Mescheder et al. 2018; Karras et al. 2020), adaptive augmentation, an
average of the generator's weights. All networks step at the same time from one forward pass of each: the logits of the
generated pictures serve both losses. Options: style mixing, path-length regularisation, a second discriminator that
sees a frozen classifier's features, and their Fréchet distance.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.priors.stylegan2.network import Config, Generator
from ilo.state import to_uint8
from training.augment import Adaption, augment
from training.discriminator import Discriminator, FeatureDiscriminator
from training.moments import Transport

BETAS = (0.0, 0.99)  # of Adam
EMA_RAMP = 0.05  # the average's half-life is at most this share of the pictures shown
PATH_DECAY = 0.01  # of the mean path length
GRID = 8  # faces per side of a grid
NETWORKS = ("generator", "average", "discriminator")
# The robust classifier whose features are judged; training/evaluate_generator.py measures by another one's.
EYE = Path(__file__).parents[1] / "benchmarks" / "judge64.safetensors"
DEPTHS = 3  # of its features, from the last one on
CRITICS = ("discriminator", "judge")
PROGRESS = ("images", "began", "step", "seconds", "anneal", "path_mean")
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Plan:
    """How a generator is trained. All but the shape may change between two runs of one training."""

    channels: tuple[int, ...] = (192, 192, 128, 64, 32)  # at 4, 8, … px, of both networks
    latent: int = 256  # size of z and of w
    mapping_layers: int = 2
    seed: int = 1
    batch: int = 16
    lr: float = 0.0025  # of both networks
    warmup: int = 2_000  # images over which the learning rate grows, while Adam learns its scales
    r1: float = 0.1  # γ
    r1_every: int = 16  # steps
    r1_batch: int = 8  # real pictures whose gradient is penalised
    path: float = 0.0  # weight of the path-length regulariser; 2 is StyleGAN2's
    path_every: int = 4  # steps
    mixing: float = 0.0  # probability that a picture has two latents; those of one are less like the data then
    ema: float = 10_000.0  # images: half-life of the average
    features: float = 0.0  # weight of what is said of a classifier's features; 1 as much as the pictures' own
    moments: float = 0.0  # weight of the Fréchet distance of the classifier's last features
    ada_target: float = 0.6  # mean sign of D(real); above 1: no augmentation
    ada_images: float = 100_000.0  # in which p could go from 0 to 1

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
    """Indices of the batches number `first`, …, without end; every epoch in an order of its own."""
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
    """R1 (Mescheder et al. 2018): mean over inputs [B, C, R, R] of ‖∇D‖², with a gradient to the weights."""
    leaves = [x.detach().requires_grad_(True) for x in inputs]
    gradients = torch.autograd.grad(discriminator(*leaves).sum(), leaves, create_graph=True)
    return torch.stack([g.square().sum((1, 2, 3)).mean() for g in gradients]).sum()


class Training:
    """Both networks, the generator's average, the optimisers, and where they stand.

    Args:
        plan: shape and recipe.
        path: the checkpoint; if it is there, the training goes on from it.
        start: a state file with the networks of an earlier training; for the beginning alone.
        device: where the networks are.
        bf16: convolve in bfloat16, for hardware that can; regularisers stay in float32.
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
        self.images = self.began = 0  # shown in all, and shown when this training began
        self.step, self.seconds = 0, 0.0
        self.anneal: tuple[int, int] | None = None  # images between which the rate falls to 0
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
        """All of them by their names in a checkpoint."""
        found = {name: getattr(self, name) for name in (*NETWORKS, "judge", "transport")}
        return {name: network for name, network in found.items() if network is not None}

    @torch.no_grad()
    def _depths(self, eye: Classifier) -> list[tuple[int, int]]:
        """Channels and side of the features that are judged."""
        blank = torch.zeros(1, 3, self.plan.side, self.plan.side, device=self.device)
        return [(x.shape[1], x.shape[2]) for x in eye.features(blank)[-DEPTHS:]]

    def _placed(self, network: N) -> N:
        network.to(self.device)
        return network.to(memory_format=torch.channels_last)

    def _begin(self, path: Path) -> None:
        """Take the networks of a state file: keys `g.…`, `ema.…` and `d.…`."""
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            about = json.loads((file.metadata() or {}).get("training", "{}"))
        for prefix, name in zip(("g.", "ema.", "d."), NETWORKS, strict=True):
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            getattr(self, name).load_state_dict(own)
        self.images = self.began = round(1000 * about.get("kimg", 0))

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        for name, network in self.networks.items():
            if name in NETWORKS or name in state:  # a judge or a transport may be new
                network.load_state_dict(state[name])
        for name, stored in state["optimisers"].items():
            if name in self.optimisers:
                self.optimisers[name].load_state_dict(stored)
        for name in PROGRESS:
            setattr(self, name, state[name])
        # Target and pace are the plan's.
        self.adaption = Adaption(**state["adaption"] | {"target": self.plan.ada_target, "images": self.plan.ada_images})

    def save(self, path: Path | None = None) -> None:
        """Write everything that going on needs; a reader never sees half of it."""
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
        """Whether the learning rate has come down to 0."""
        return self.anneal is not None and self.images >= self.anneal[1]

    def rate(self) -> float:
        """Learning rate of the next step: up, constant, and down when an end is set."""
        rate = self.plan.lr * min(1.0, (self.images - self.began + self.plan.batch) / max(1, self.plan.warmup))
        if self.anneal is not None:
            begin, end = self.anneal
            rate *= min(1.0, max(0.0, (end - self.images) / max(1, end - begin)))
        return rate

    def latents(self, batch: int, rng: torch.Generator) -> Tensor:
        """ws [B, num_ws, w_dim]; with the plan's probability, another latent's from a random style input on."""
        config = self.generator.config
        z = torch.randn(2 * batch, config.z_dim, generator=rng, device=self.device)
        w, other = self.generator.mapping(z).split(batch)
        first = torch.randint(1, config.num_ws, (batch, 1), generator=rng, device=self.device)
        mixed = torch.rand(batch, 1, generator=rng, device=self.device) < self.plan.mixing
        from_other = (torch.arange(config.num_ws, device=self.device) >= first) & mixed
        return torch.where(from_other[:, :, None], other[:, None], w[:, None])

    def draw(self, ws: Tensor, rng: torch.Generator) -> Tensor:
        """The generator's pictures [B, 3, R, R], with new noise maps."""
        sizes = self.generator.config.noise_sizes
        noise = [torch.randn(len(ws), 1, r, r, generator=rng, device=self.device) for r in sizes]
        return self.generator.suffix(None, ws, noise, 0)

    def update(self, pictures: Tensor) -> dict[str, float]:
        """One step of both networks on uint8 pictures [B, R, R, 3]; returns what a log shows of it.

        Raises:
            FloatingPointError: a loss is not finite; nothing has been changed.
        """
        plan, p = self.plan, self.adaption.p
        # All that is random depends on the seed and the step alone: nothing of it needs to be stored.
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
        # The generator's loss leaves no gradient in the discriminators, and the other way round.
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
        real_own, fake_own = real_logits[:, 0], fake_logits[:, 0]  # of the pictures themselves
        values = [loss_g, loss_d, real_own.mean(), fake_own.mean(), real_own.sign().mean(), penalty]
        numbers = torch.stack([value.detach() for value in values]).tolist()  # one wait for the device
        found = dict(zip(("loss_g", "loss_d", "real", "fake", "sign", "r1"), numbers, strict=True))
        if not math.isfinite(found["loss_g"] + found["loss_d"]):
            raise FloatingPointError(f"step {self.step}: the losses are {found['loss_g']} and {found['loss_d']}")
        self._step()
        self.adaption.observe(found["sign"], len(real))
        return found | {"p": self.adaption.p}

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What is said of pictures [B, 3, R, R]: logits [B, 1], beside which are those of their features, if these are
        judged; and the means of the classifier's last features, [B, C], empty if they do not count."""
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
        """Mean over the pictures of losses [B, logits]; those of features count `plan.features` together."""
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
        """The same faces every time, by the averaged generator with its constant noise."""
        z = torch.randn(GRID**2, self.plan.latent, generator=torch.Generator().manual_seed(0)).to(self.device)
        pixels = np.concatenate([to_uint8(self.average(part)) for part in z.split(16)])
        rows = [np.concatenate(list(row), 1) for row in pixels.reshape(GRID, GRID, *pixels.shape[1:])]
        return Image.fromarray(np.concatenate(rows))
