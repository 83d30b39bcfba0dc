"""Evaluate face generators: reconstruction of held-out faces, and the quality of samples.

    python -m training.evaluate_generator MODEL [MODEL …] --data DATA --work WORK [--faces 50] --out results.json

MODEL is a weights file or an id for `ilo.load`; the results list it by its id or file name. DATA holds the tar files of
the faces. WORK stores the decoded pictures, the training faces' features and, for each model, samples and some of them
beside their nearest training faces. All randomness is seeded, and every model is measured at 64 px on the same faces:
the pictures of a larger model are reduced by the bicubic operator as part of the measurement.

- inversion: MSE of CSGM after 300 steps when all pixels are observed, also for each group of people;
- reconstruction: MSE of ILO, Quick preset, from a tenth of the pixels and from 8 × 8 pixels;
- Fréchet distance (Heusel et al. 2017), precision and recall (Kynkäänniemi et al. 2019, k = 3) of samples against the
  training faces, on the last features of the embedded robust classifier; compare them only with each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ilo import Problem, SolverSettings, build, load, preset, solve
from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.operators import Operator
from ilo.photos.pictures import from_uint8
from ilo.priors.load import Model
from ilo.priors.stylegan2.network import Generator
from ilo.records.metrics import mse
from ilo.state import to_uint8
from training.pictures import read_faces, read_tars

SIDE = 64
INVERSION_STEPS = 300
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "inpainting, 10 % of pixels": ("random-inpaint", {"fraction": 0.1}),
    "super-resolution, ×8": ("super-resolve", {"factor": 8}),
}
NEIGHBOURS = 3  # k of precision and recall
GRID = (4, 12)
SHOWN, SHOWN_NEIGHBOURS = 16, 5

AGES = ((0, 9), (10, 19), (20, 39), (40, 59), (60, 200))
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")  # terms of the data set


def label(name: str) -> int:
    """Encode the labels in a file name of the data set, age_gender_race_date, as one number."""
    age, gender, race = (int(part) for part in Path(name).stem.split("_")[:3])
    return age * 100 + gender * 10 + race


def groups(face: int) -> list[str]:
    """Names of the groups that a face with this label belongs to."""
    age, gender, race = face // 100, face // 10 % 10, face % 10
    low, high = next(band for band in AGES if band[0] <= age <= band[1])
    ages = f"{low} to {high} years" if high < AGES[-1][1] else f"{low} years and more"
    return [ages, GENDERS[gender], RACES[race]]


def reduced(resolution: int, operator: Operator | None = None) -> Operator:
    """Operator that reduces a generator's picture to 64 px and then applies `operator` (None: all pixels observed)."""
    if resolution == SIDE:
        return operator or build("identity", SIDE)
    smaller = build("super-resolve", resolution, factor=resolution // SIDE)
    return smaller if operator is None else build("compose", resolution, operators=[smaller, operator])


def errors(model: Model, truth: Tensor, operator: Operator | None, settings: SolverSettings, batch: int) -> list[float]:
    """MSE on [0, 1] at 64 px of each face [N, 3, 64, 64], reconstructed from its measurement by `operator`."""
    found: list[float] = []
    for part in truth.split(batch):
        y = part if operator is None else operator.measure(part)
        problem = Problem(reduced(model.resolution, operator), y)
        *_, last = solve(model, problem, settings, due=lambda: False, perceptual=None)
        assert last.result is not None
        found += mse(reduced(model.resolution)(last.result.image.clamp(-1, 1)), part).tolist()
    return found


@torch.no_grad()
def sample(generator: Generator, count: int) -> np.ndarray:
    """Draw pictures at 64 px, uint8 [N, 64, 64, 3], with constant noise maps."""
    z = torch.randn(count, generator.config.z_dim, generator=torch.Generator().manual_seed(0)).to(generator.device)
    smaller = reduced(generator.config.img_resolution).to(generator.device)
    return np.concatenate([to_uint8(smaller(generator(part).clamp(-1, 1))) for part in z.split(50)])


@torch.no_grad()
def features(network: Classifier, pictures: np.ndarray) -> Tensor:
    """Last features of uint8 pictures, averaged over pixels, [N, C]."""
    parts = np.array_split(pictures, max(1, len(pictures) // 250))
    return torch.cat([network.features(from_uint8(part))[-1].mean((2, 3)).cpu() for part in parts])


def training_faces(data: Path, work: Path, network: Classifier) -> tuple[np.ndarray, Tensor]:
    """The training pictures, uint8 [M, 64, 64, 3], and their features [M, C]; cached in `work`."""
    pictures = read_faces(data, SIDE, work)
    kept = work / f"features-{network.sha256[:12]}.npy"
    if not kept.exists():
        np.save(kept, features(network, pictures).numpy())
    return pictures, torch.from_numpy(np.load(kept))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of features [N, C] and [M, C]."""
    a, b = a.double(), b.double()
    cov_a, cov_b = a.t().cov(), b.t().cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    # Σ_a Σ_b has the same eigenvalues as this symmetric matrix.
    product = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * product)


def precision_recall(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Precision and recall of fake features [N, C] with respect to real ones [M, C].

    Precision is the share of fake points that lie within the real set, recall the reverse. A point lies within a set if
    it is no further from one of its points than that point's k-th neighbour (Kynkäänniemi et al. 2019, eqs. 1 and 2).
    """

    def within(points: Tensor, others: Tensor) -> float:
        # k + 1, because the nearest point is the point itself.
        reach = torch.cat(
            [torch.cdist(part, others).topk(k + 1, largest=False)[0][:, -1] for part in others.split(500)]
        )
        return float(
            torch.cat([(torch.cdist(part, others) <= reach).any(1) for part in points.split(500)]).float().mean()
        )

    return within(fake, real), within(real, fake)


def grid(pictures: np.ndarray) -> Image.Image:
    """Arrange pictures uint8 [48, 64, 64, 3] in rows."""
    rows, columns = GRID
    tiles = pictures.reshape(rows, columns, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(tiles.reshape(rows * SIDE, columns * SIDE, 3))


def neighbours(samples: np.ndarray, sampled: Tensor, training: np.ndarray, trained: Tensor) -> Image.Image:
    """One row per sample: the sample, then the training faces with the nearest features."""
    nearest = torch.cdist(sampled[:SHOWN], trained).topk(SHOWN_NEIGHBOURS, largest=False)[1].numpy()
    rows = [np.concatenate([samples[i], *training[nearest[i]]], 1) for i in range(SHOWN)]
    half = SHOWN // 2
    return Image.fromarray(np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1))


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, standard error and all values, so that models can be compared face by face."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mse": statistics.fmean(values), "standard_error": error, "each": [round(v, 6) for v in values]}


def by_group(values: list[float], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean and number of faces of each group."""
    found: dict[str, list[float]] = {}
    for value, face in zip(values, labels.tolist(), strict=True):
        for group in groups(face):
            found.setdefault(group, []).append(value)
    return {name: {"mse": statistics.fmean(v), "faces": len(v)} for name, v in sorted(found.items())}


@dataclass(frozen=True)
class Faces:
    """The data for evaluating models."""

    truth: Tensor  # held-out faces [N, 3, 64, 64]
    labels: np.ndarray  # labels of the held-out faces
    training: np.ndarray  # training faces, uint8 [M, 64, 64, 3]
    trained: Tensor  # features of the training faces [M, C]
    network: Classifier  # classifier that computes the features

    @classmethod
    def read(cls, data: Path, work: Path) -> Faces:
        unseen, labels = read_tars([data / "utkface128-val.tar"], SIDE, work / f"unseen{SIDE}.npz", label)
        # Shuffled, because the file names are sorted by age.
        order = np.random.default_rng(0).permutation(len(unseen))
        network = classifier.load("robust64")
        return cls(from_uint8(unseen[order]), labels[order], *training_faces(data, work, network), network)


def measure(
    model: Model, faces: Faces, count: int, group_count: int, samples: int, batch: int
) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """All figures of a model, and pictures by name: samples, and some samples beside their neighbours."""
    found: dict[str, Any] = {"file": model.path.name, "sha256": model.sha256, "training": model.about.get("training")}
    times = [time.monotonic()]
    csgm = preset("Quick", "csgm")
    csgm = replace(csgm, rounds=(replace(csgm.rounds[0], steps=INVERSION_STEPS),))
    inverted = max(count, group_count)
    values = errors(model, faces.truth[:inverted], None, csgm, batch)
    found["inversion"] = summary(values[:count])
    found["groups"] = by_group(values, faces.labels[:inverted])
    times.append(time.monotonic())
    for task, (kind, options) in TASKS.items():
        operator = build(kind, SIDE, **options)
        quick = preset("Quick", "ilo", operator=operator, prior=model)
        found[task] = summary(errors(model, faces.truth[:count], operator, quick, batch))
    times.append(time.monotonic())
    pictures = sample(model.generator, samples)
    sampled = features(faces.network, pictures)
    some = torch.randperm(len(faces.trained), generator=torch.Generator().manual_seed(0))[:samples]
    found["frechet"] = frechet_distance(faces.trained, sampled)
    found["precision"], found["recall"] = precision_recall(faces.trained[some], sampled)
    times.append(time.monotonic())
    parts = ("inversion", "reconstruction", "samples")
    found["seconds"] = {part: round(b - a) for part, a, b in zip(parts, times, times[1:], strict=False)}
    beside = neighbours(pictures, sampled, faces.training, faces.trained)
    return found, {"samples": grid(pictures[: GRID[0] * GRID[1]]), "neighbours": beside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file of results by model, to which these are added")
    parser.add_argument("--faces", type=int, default=50, help="number of faces to reconstruct")
    parser.add_argument(
        "--group-faces", type=int, default=0, help="number of faces to invert for the groups, up to 400"
    )
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    args.work.mkdir(parents=True, exist_ok=True)
    faces = Faces.read(args.data, args.work)
    for name in args.models:
        model = load(name)
        found, drawn = measure(model, faces, args.faces, args.group_faces, args.samples, args.batch)
        for kind, picture in drawn.items():
            picture.save(args.work / f"{kind}-{model.path.stem}.png")
        results = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.write_text(json.dumps(results | {model.id: found}, indent=1, ensure_ascii=False))
        print(row(model.id, found), flush=True)


def row(name: str, found: dict[str, Any]) -> str:
    """The figures of a model as one line, with errors times 1,000."""
    parts = [
        f"{task} {found[task]['mse'] * 1e3:.2f} ± {found[task]['standard_error'] * 1e3:.2f}"
        for task in ("inversion", *TASKS)
    ]
    parts += [f"{key} {found[key]:.3f}" for key in ("frechet", "precision", "recall")]
    return f"{name}: " + " · ".join(parts)


if __name__ == "__main__":
    main()
