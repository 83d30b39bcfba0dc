"""Train the studio's face generators, StyleGAN2 (Karras et al. 2020), from tar files to a weights file.

    python -m training.train_generator --data DATA --work WORK                         # until SIGTERM
    python -m training.train_generator --data DATA --work WORK --images 600000         # for a fixed number of images
    python -m training.train_generator --data DATA --work WORK --anneal-images 60000   # anneal from the checkpoint
    python -m training.train_generator --data DATA --work WORK --export FILE

DATA holds utkface128-train-*.tar. All output goes to WORK: the decoded pictures, a checkpoint every few minutes and at
the end (the same command resumes from it exactly), log.csv, grids of the same faces drawn by the averaged generator,
and its Fréchet distance in metrics.csv. SIGTERM saves and exits. With --export FILE the averaged generator is written
in the format of `ilo.load`.

The training step is in training/adversarial.py. `--start` begins with the networks of a state file (training/state.py)
or of another training's checkpoint; training/grow.py makes one for pictures of twice the side. `--channels` sets the
architecture, where six numbers give a generator of 128 px; `--features 1` adds a second discriminator on a classifier's
features, and `--moments 0.1` pulls their mean and covariance towards the data's.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ilo.classifiers import classifier
from ilo.engine import devices
from training.adversarial import EYE, Plan, Training, batches
from training.evaluate_generator import features, frechet_distance, sample, training_faces
from training.pictures import read_faces

CHECKPOINT_SECONDS = 180.0
AVERAGE_OVER = 100_000  # number of latents for the mean w
ALIGNMENT = {
    "eye_left": [0.294, 0.286],
    "eye_right": [0.678, 0.287],
    "nose": [0.47, 0.506],
    "mouth_left": [0.319, 0.671],
    "mouth_right": [0.644, 0.673],
}
SAMPLES = 5_000  # number of samples for the Fréchet distance
Report = Callable[[Training, Path], None]
LOG = ("images", "images_per_second", "loss_g", "loss_d", "real", "fake", "sign", "r1", "p", "rate", "seconds")


def run(training: Training, pictures: Tensor, work: Path, log_every: int, reports: list[tuple[int, Report]]) -> None:
    """Train on uint8 pictures [N, R, R, 3] until the schedule ends or the process is asked to stop; then save.

    Args:
        training: the training, which is modified.
        pictures: training pictures.
        work: folder for the log and the checkpoint.
        log_every: steps between lines of the log.
        reports: (images between calls, function) pairs; each function is also called at the start and after annealing.
    """
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.append(number))
    log = work / "log.csv"
    # Drop log lines of steps after the checkpoint, because these are repeated.
    rows = log.read_text().splitlines()[1:] if log.exists() else []
    kept = [row for row in rows if int(row.split(",")[0]) <= training.images]
    log.write_text("\n".join([",".join(LOG), *kept]) + "\n")
    if training.step == 0:
        for _, report in reports:
            report(training, work)
    saved = began = time.monotonic()
    began_at, seen = training.images, []
    for indices in batches(len(pictures), training.plan, training.step):
        if told or training.ended:
            break
        started = time.monotonic()
        seen.append(training.update(pictures[indices]))
        training.seconds += time.monotonic() - started
        if training.step % log_every == 0:
            values = {name: f"{_mean([s[name] for s in seen]):.3f}" for name in seen[0]}
            values["images"] = f"{training.images}"
            values["images_per_second"] = f"{(training.images - began_at) / (time.monotonic() - began):.1f}"
            values |= {"rate": f"{training.rate():.2g}", "seconds": f"{training.seconds:.0f}"}
            with log.open("a", newline="") as file:
                csv.writer(file).writerow(values[name] for name in LOG)
            print(*(f"{name} {values[name]}" for name in LOG), flush=True)
            began, began_at, seen = time.monotonic(), training.images, []
        for every, report in reports:
            if training.images % every < training.plan.batch:
                report(training, work)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            training.save()
            saved = time.monotonic()
    training.save()
    for _, report in reports if training.ended else []:  # skipped after an interruption, to exit quickly
        report(training, work)


def _mean(values: list[float]) -> float:
    """Mean of the values that are not NaN; some values are not computed at every step."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def draw_grid(training: Training, work: Path) -> None:
    training.grid().save(work / f"grid-{training.images // 1000:06d}.png")


class Distance:
    """Measures the Fréchet distance of the averaged generator's samples to the faces of `data`, as in
    training/evaluate_generator.py, and appends it to a file."""

    def __init__(self, data: Path, work: Path, device: str):
        self._network = classifier.load("robust64", device)
        _, self._features = training_faces(data, work, self._network)

    def __call__(self, training: Training, work: Path) -> None:
        found = frechet_distance(self._features, features(self._network, sample(training.average, SAMPLES)))
        path = work / "metrics.csv"
        if not path.exists():
            path.write_text("images,frechet\n")
        with path.open("a") as file:
            file.write(f"{training.images},{found:.4f}\n")


@torch.no_grad()
def export(training: Training, path: Path, hardware: str) -> None:
    """Write the averaged generator in float16, with its metadata."""
    plan, sizes, mapping = training.plan, training.plan.sizes, training.average.mapping
    config = {
        "z_dim": plan.latent,
        "w_dim": plan.latent,
        "c_dim": 0,
        "img_resolution": plan.side,
        "img_channels": 3,
        "mapping_layers": plan.mapping_layers,
        "mapping_lr_multiplier": plan.config.mapping_lr_multiplier,
        "channels": {str(size): count for size, count in sizes.items()},
        "channel_base": sizes[plan.side] * plan.side,
        "channel_max": max(sizes.values()),
        "resample_filter": [1, 3, 3, 1],
        "architecture": "skip",
        "activation": "lrelu",
    }
    about = {
        "data": "UTKFace aligned and cropped, 22,907 faces",
        "kimg": round(training.images / 1000, 1),
        "hardware": hardware,
        "loss": f"non-saturating logistic, R1 gamma {plan.r1:g}",
        "augmentation": f"mirroring; adaptive, target {plan.ada_target:g}, p = {training.adaption.p:.2f} at the end",
    }
    if plan.features or plan.moments:
        weights = f"judged with weight {plan.features:g}, moments matched with weight {plan.moments:g}"
        about["features"] = f"of {EYE.stem}: {weights}"
    metadata = {
        "format": "stylegan2-official-names",
        "training": json.dumps(about),
        "licence": "research and non-commercial use (terms of the training data)",
        "config": json.dumps(config),
        "alignment": json.dumps(ALIGNMENT),
    }
    z = torch.randn(AVERAGE_OVER, plan.latent, generator=torch.Generator().manual_seed(0)).to(training.device)
    tensors = training.average.state_dict() | {"mapping.w_avg": mapping(z).mean(0)}
    for name, tensor in tensors.items():
        kept = tensor if name.endswith("resample_filter") else tensor.half()
        tensors[name] = kept.cpu().contiguous()
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="state file with the networks to start from")
    parser.add_argument("--channels", type=int, nargs="+", default=Plan.channels, help="channels at 4, 8, … px")
    for field in fields(Plan):
        if field.name != "channels":
            flag = f"--{field.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(field.default), default=field.default, help=f"{field.default}")
    parser.add_argument(
        "--images", type=int, help="total number of images; the learning rate falls over the last fifth"
    )
    parser.add_argument(
        "--anneal-images", type=int, help="let the learning rate fall to 0 over this many more images, then end"
    )
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--bf16", action="store_true", help="convolve in bfloat16, if the hardware supports it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--grid-every", type=int, default=10_000, help="images between sample grids")
    parser.add_argument(
        "--metrics-every",
        type=int,
        default=50_000,
        help="images between measurements of the Fréchet distance; 0: never",
    )
    parser.add_argument("--log-every", type=int, default=100, help="steps between lines of the log")
    parser.add_argument("--export", type=Path, help="write the averaged generator of the last checkpoint and exit")
    parser.add_argument("--hardware", default="2 CPU cores", help="hardware named in the metadata of --export")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    options = {field.name: getattr(args, field.name) for field in fields(Plan)}
    plan = Plan(**options | {"channels": tuple(args.channels)})
    args.work.mkdir(parents=True, exist_ok=True)
    checkpoint = args.work / "checkpoint.pt"
    if args.export and not args.start and not checkpoint.exists():
        parser.error(f"--export: there is no {checkpoint} yet, and no --start")
    try:
        device = str(devices.choose(args.device).device)
        training = Training(plan, checkpoint, args.start, device, args.bf16)
    except ValueError as error:
        parser.error(str(error))
    if args.export:
        export(training, args.export, args.hardware)
        return
    pictures = read_faces(args.data, plan.side, args.work)
    if args.images:
        training.anneal = (args.images - (args.images - training.began) // 5, args.images)
    elif args.anneal_images and training.anneal is None:
        training.save(args.work / "before-anneal.pt")  # to continue with a constant learning rate later
        training.anneal = (training.images, training.images + args.anneal_images)
    reports: list[tuple[int, Report]] = [(args.grid_every, draw_grid)]
    if args.metrics_every:
        reports.append((args.metrics_every, Distance(args.data, args.work, device)))
    run(training, torch.from_numpy(pictures), args.work, args.log_every, reports)


if __name__ == "__main__":
    main()
