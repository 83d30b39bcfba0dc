"""Train the studio's classifiers on 100 classes of Tiny ImageNet, from tar files to a weights file.

    python -m training.train_classifier robust   --data DATA --work WORK   # for guidance; ε > 0
    python -m training.train_classifier standard --data DATA --work WORK   # the same network without attacks
    python -m training.train_classifier judge    --data DATA --work WORK   # another network, only for evaluation

DATA holds tinyimagenet64-train-*.tar, tinyimagenet64-val.tar and classes.tsv. All output goes to WORK: the decoded
pictures, a checkpoint every few minutes (the same command resumes from it), log.csv and log.png. With --export FILE the
averaged weights of the last checkpoint are calibrated, evaluated, and written in the format of the embedded
classifiers.

Training is adversarial in the L2 norm (Madry et al. 2018), with one step from a random start (Wong et al. 2020). The
first epochs use pictures at half size and half the ε, which needs a quarter of the computation and learns most of the
features. The very first ones use no attacks, because robust features are learned faster from standard ones (Jeddi et
al. 2020).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ilo.classifiers import classifier
from ilo.classifiers.classifier import ResidualNetwork, Shape
from training.pictures import read_classes, read_tars

CHECKPOINT_SECONDS = 180.0
SIZE = 64


@dataclass(frozen=True)
class Plan:
    """Hyperparameters of one training."""

    widths: tuple[int, ...] = (32, 64, 160, 384)
    blocks: tuple[int, ...] = (1, 2, 1, 1)
    epsilon: float = 0.86  # L2 radius of the attack for pictures of 64 px in [0, 1]; 0: none
    seed: int = 1
    epochs: float = 9.0
    batch: int = 128
    lr: float = 0.15  # peak learning rate of SGD with momentum 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1  # label smoothing
    sizes: tuple[tuple[float, int], ...] = ((0.5, 32), (0.85, 48), (1.0, 64))  # (share of the steps, side until then)
    attack_from: tuple[float, float] = (0.3, 0.4)  # ε grows from 0 to its full value between these shares of the steps
    ema: float = 0.998  # decay of the weight average per step


PLANS = {
    "robust": Plan(),
    "standard": Plan(epsilon=0.0, epochs=12.0),
    "judge": Plan(widths=(48, 96, 192, 384), blocks=(1, 1, 1, 1), seed=0, epochs=8.0),
}


def side_at(plan: Plan, share: float) -> int:
    return next(side for until, side in plan.sizes if share < until or until == plan.sizes[-1][0])


def rate_at(plan: Plan, share: float) -> float:
    """Learning rate: linear warm-up over the first tenth of the steps, then cosine decay to 0."""
    if share < 0.1:
        return plan.lr * share / 0.1
    return plan.lr * 0.5 * (1 + math.cos(math.pi * (share - 0.1) / 0.9))


def epsilon_at(plan: Plan, share: float) -> float:
    """L2 radius of the attack on [0, 1] at 64 px."""
    begin, end = plan.attack_from
    return plan.epsilon * min(1.0, max(0.0, (share - begin) / (end - begin)))


def batches(count: int, plan: Plan, first: int) -> Iterator[Tensor]:
    """Iterate over the indices of batches `first`, `first` + 1, …; each epoch has its own order."""
    per_epoch = count // plan.batch
    for step in range(first, round(plan.epochs * per_epoch)):
        rng = torch.Generator().manual_seed(plan.seed * 10_000 + step // per_epoch)
        order = torch.randperm(count, generator=rng)
        start = step % per_epoch * plan.batch
        yield order[start : start + plan.batch]


def augment(pictures: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """Augment uint8 [B, 64, 64, 3] to float [B, 3, side, side] in [−1, 1]: mirroring, shifts up to 1/8, brightness."""
    x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    if side < x.shape[-1]:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    flip = torch.rand(len(x), 1, 1, 1, generator=rng) < 0.5
    x = torch.where(flip, x.flip(3), x)
    pad = side // 8
    x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    corners = torch.randint(0, 2 * pad + 1, (len(x), 2), generator=rng).tolist()
    x = torch.stack([sample[:, r : r + side, c : c + side] for sample, (r, c) in zip(x, corners, strict=True)])
    gain = 1 + 0.2 * (2 * torch.rand(len(x), 1, 1, 1, generator=rng) - 1)
    return (x * gain).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def in_ball(delta: Tensor, radius: float) -> Tensor:
    """Scale each sample's perturbation [B, …] to an L2 norm of at most `radius`."""
    norm = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
    return delta * (radius / norm).clamp_max(1)[:, None, None, None]


def attack(
    network: ResidualNetwork, x: Tensor, labels: Tensor, radius: float, steps: int, rng: torch.Generator
) -> Tensor:
    """Perturb x by at most `radius` in L2 (on [−1, 1]) to raise the cross-entropy, by PGD from a random start."""
    delta = torch.randn(x.shape, generator=rng).contiguous(memory_format=torch.channels_last)
    delta = delta / delta.flatten(1).norm(dim=1)[:, None, None, None]
    delta = delta * radius * torch.rand(len(x), 1, 1, 1, generator=rng)
    size = 1.25 * radius if steps == 1 else 2.5 * radius / steps
    for _ in range(steps):
        point = (x + delta).clamp(-1, 1).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(point), labels, reduction="sum"), point)
        gradient = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        delta = in_ball(delta + size * gradient, radius)
    return (x + delta).clamp(-1, 1).detach()


def accuracy(network: ResidualNetwork, pictures: np.ndarray, labels: np.ndarray, epsilon: float, steps: int) -> float:
    """Accuracy on validation pictures under an attack of `steps` steps with L2 radius ε on [0, 1].

    Pictures that are already misclassified are not attacked.
    """
    network.eval().requires_grad_(False)
    rng, right = torch.Generator().manual_seed(0), 0
    for start in range(0, len(pictures), 250):
        x, y = _as_input(pictures[start : start + 250]), torch.from_numpy(labels[start : start + 250])
        recognised = _recognised(network, x, y)
        if steps and recognised.any():
            x, y = x[recognised], y[recognised]
            recognised = _recognised(network, attack(network, x, y, 2 * epsilon, steps, rng), y)
        right += int(recognised.sum())
    network.requires_grad_(True).train()
    return right / len(pictures)


@torch.no_grad()
def calibration(network: ResidualNetwork, pictures: np.ndarray, labels: np.ndarray) -> float:
    """Factor on the logits that calibrates the probabilities (temperature scaling, Guo et al. 2017).

    Label smoothing and adversarial training make a network far less confident than it is accurate.
    """
    network.eval()
    parts = [network(_as_input(pictures[start : start + 250])) for start in range(0, len(pictures), 250)]
    logits, wanted = torch.cat(parts), torch.from_numpy(labels)
    return min((i / 20 for i in range(10, 61)), key=lambda s: float(F.cross_entropy(s * logits, wanted)))


def _as_input(pictures: np.ndarray) -> Tensor:
    """Convert uint8 [B, H, W, 3] to [B, 3, H, W] in [−1, 1]."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _recognised(network: ResidualNetwork, x: Tensor, labels: Tensor) -> Tensor:
    return network(x).argmax(1) == labels


class Training:
    """The state of a training: network, weight average, optimiser and progress."""

    def __init__(self, plan: Plan, classes: int, work: Path):
        torch.manual_seed(plan.seed)
        self.plan, self.path = plan, work / "checkpoint.pt"
        shape = Shape(classes, plan.widths, plan.blocks, SIZE)
        self.network = ResidualNetwork(shape).to(memory_format=torch.channels_last).train()
        self.average = ResidualNetwork(shape).to(memory_format=torch.channels_last)
        self.average.load_state_dict(self.network.state_dict())
        # No weight decay for norms and biases.
        decayed = [p for p in self.network.parameters() if p.dim() > 1]
        others = [p for p in self.network.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.SGD(
            groups, lr=plan.lr, momentum=0.9, nesterov=True, weight_decay=plan.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def update(self, pictures: Tensor, labels: Tensor, share: float) -> float:
        """Train for one step on a batch. Returns the loss."""
        plan = self.plan
        rng = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        side = side_at(plan, share)
        x = augment(pictures, side, rng)
        epsilon = epsilon_at(plan, share)
        if epsilon > 0:
            # The attack uses the batch's statistics without changing the running ones.
            _track(self.network, False)
            x = attack(self.network, x, labels, 2 * epsilon * side / SIZE, 1, rng)
            _track(self.network, True)
        loss = F.cross_entropy(self.network(x), labels, label_smoothing=plan.smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(plan, share)
        self.optimiser.step()
        self.step += 1
        decay = min(plan.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                mean.copy_(now) if not now.is_floating_point() else mean.lerp_(now, 1 - decay)
        return loss.item()


def _track(network: ResidualNetwork, on: bool) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats = on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(PLANS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure-every", type=float, default=4.0, help="epochs between evaluations (on 250 pictures)")
    parser.add_argument("--export", type=Path, help="write the weights of the last checkpoint and exit")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    plan = PLANS[args.kind] if args.epochs is None else replace(PLANS[args.kind], epochs=args.epochs)
    classes = read_classes(args.data / "classes.tsv")
    number = {wnid: i for i, (wnid, _) in enumerate(classes)}

    def label(name: str) -> int:
        return number[name.split("/")[0]]

    test_set = read_tars([args.data / "tinyimagenet64-val.tar"], SIZE, args.work / "val.npz", label)
    work = args.work / args.kind
    work.mkdir(parents=True, exist_ok=True)
    training = Training(plan, len(classes), work)
    if args.export:
        export(training, classes, test_set, args.export)
        return

    tars = sorted(args.data.glob("tinyimagenet64-train-*.tar"))
    pictures, labels = (torch.from_numpy(a) for a in read_tars(tars, SIZE, args.work / "train.npz", label))
    per_epoch = len(pictures) // plan.batch
    total = round(plan.epochs * per_epoch)
    measured_every = max(1, round(args.measure_every * per_epoch))
    log = work / "log.csv"
    head = "step,epoch,side,loss,pictures_per_second,clean,attacked,seconds"
    # Drop log lines of steps after the checkpoint, because these are repeated.
    rows = log.read_text().splitlines()[1:] if log.exists() else []
    kept = [row for row in rows if int(row.split(",")[0]) <= training.step]
    log.write_text("\n".join([head, *kept]) + "\n")
    saved, losses, began, began_at = time.monotonic(), [], time.monotonic(), training.step
    for indices in batches(len(pictures), plan, training.step):
        started = time.monotonic()
        losses.append(training.update(pictures[indices], labels[indices], training.step / total))
        training.seconds += time.monotonic() - started
        due = training.step % measured_every == 0 or training.step == total
        if training.step % 100 == 0 or due:
            speed = (training.step - began_at) * plan.batch / (time.monotonic() - began)
            found = ["", ""]
            if due:
                part = slice(None, None, 20)
                network = training.average
                found = [f"{accuracy(network, test_set[0][part], test_set[1][part], 0.5, n):.4f}" for n in (0, 20)]
            side = side_at(plan, (training.step - 1) / total)
            row = [
                training.step, f"{training.step / per_epoch:.2f}", side, f"{np.mean(losses):.4f}", f"{speed:.0f}",
                *found, f"{training.seconds:.0f}",
            ]  # fmt: skip
            with log.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
            losses, began, began_at = [], time.monotonic(), training.step
        if time.monotonic() - saved > CHECKPOINT_SECONDS or training.step == total:
            training.save()
            saved = time.monotonic()
    plot(log, work / "log.png")


def export(
    training: Training, classes: list[tuple[str, str]], test_set: tuple[np.ndarray, np.ndarray], path: Path
) -> None:
    """Calibrate the averaged weights, evaluate them in float16, as they are stored, and write them."""
    network = training.average
    scale = calibration(network, *test_set)
    with torch.no_grad():
        network.head.weight.mul_(scale)
        network.head.bias.mul_(scale)
        for parameter in network.state_dict().values():
            if parameter.is_floating_point():
                parameter.copy_(parameter.half().float())
    figures = {
        "clean": accuracy(network, *test_set, 0.5, 0),
        "attacked": accuracy(network, *test_set, 0.5, 20),
        "attack": "20 PGD steps, L2 ε = 0.5 on [0, 1] at 64 px",
        "pictures": len(test_set[0]),
    }
    steps_a_epoch = 50_000 // training.plan.batch
    about = {
        "training": {
            **asdict(training.plan),
            "epochs_done": training.step / steps_a_epoch,
            "seconds": training.seconds,
        },
        "accuracy": figures,
        "calibration": f"logits times {scale:.2f}, fitted to the validation pictures",
        "data": "Tiny ImageNet, 100 classes of 500 pictures, 64 px",
        "licence": "non-commercial research and education (terms of the training data)",
    }
    classifier.save(network, path, classes, about)
    print(json.dumps(figures))


def plot(log: Path, path: Path) -> None:
    """Plot loss and accuracies over the epochs."""
    import matplotlib.pyplot as plt

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.plot([float(r["epoch"]) for r in rows], [float(r["loss"]) for r in rows])
    left.set(xlabel="epoch", ylabel="loss")
    for key, name in (("clean", "clean"), ("attacked", "PGD-20, ε = 0.5")):
        points = [(float(r["epoch"]), float(r[key])) for r in rows if r[key]]
        right.plot(*zip(*points, strict=True), marker="o", label=name)
    right.set(xlabel="epoch", ylabel="validation top-1")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
