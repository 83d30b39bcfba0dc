"""Evaluate what a grown generator adds to the one before it, at its own resolution.

    python -m training.evaluate_detail MODEL --before faces64 --data DATA --work WORK [--faces 50] [--out results.json]

MODEL draws pictures of twice the side R of those of `--before`, whose pictures are enlarged bicubically for the
comparison. DATA and WORK are as for training.evaluate_generator, whose figures at 64 px go with these.

- Fréchet distance of samples to the training faces, on the last features of the embedded robust classifier for the four
  quarters of each picture, so that fine detail counts;
- inversion: MSE of CSGM after 300 steps when all pixels are observed;
- spectrum: power of samples beyond the highest frequency that the smaller pictures can hold, relative to photographs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilo import Problem, build, load, preset, solve
from ilo.classifiers import classifier
from ilo.operators.resizing import resize
from ilo.photos.pictures import from_uint8
from ilo.priors.load import Model
from ilo.records.metrics import mse
from ilo.state import to_uint8
from training.evaluate_generator import INVERSION_STEPS, features, frechet_distance, label, summary
from training.pictures import read_faces, read_tars

LUMA = (0.299, 0.587, 0.114)
PART = 250  # pictures processed at a time


def quarters(pictures: np.ndarray) -> np.ndarray:
    """The four quarters of uint8 pictures [N, S, S, 3]: [4N, S/2, S/2, 3]."""
    count, side = pictures.shape[:2]
    tiles = pictures.reshape(count, 2, side // 2, 2, side // 2, 3).transpose(0, 1, 3, 2, 4, 5)
    return tiles.reshape(4 * count, side // 2, side // 2, 3)


def detail(pictures: np.ndarray) -> float:
    """Mean power of the brightness of uint8 pictures [N, S, S, 3] at frequencies that S/2 pixels cannot hold.

    These are the frequencies above S/4 cycles per picture in x or in y, half of those of S pixels.
    """
    side = pictures.shape[1]
    beyond = np.abs(np.fft.fftfreq(side, 1 / side)) > side / 4
    chosen = beyond[:, None] | beyond[None]
    parts = np.array_split(pictures, max(1, len(pictures) // PART))
    powers = [np.abs(np.fft.fft2(part @ np.array(LUMA)))[:, chosen] ** 2 for part in parts]
    return float(np.concatenate([power.mean(1) for power in powers]).mean())


@torch.no_grad()
def drawn(model: Model, count: int, side: int) -> np.ndarray:
    """Samples as uint8 [N, side, side, 3], with constant noise maps; smaller pictures are enlarged."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(count, model.generator.config.z_dim, generator=rng).to(model.device)
    return np.concatenate([to_uint8(resize(model.generator(part).clamp(-1, 1), side)) for part in z.split(50)])


def inverted(model: Model, truth: Tensor, batch: int) -> list[float]:
    """MSE on [0, 1] of each face [N, 3, S, S], inverted at the model's resolution and enlarged to S."""
    settings = preset("Quick", "csgm")
    settings = replace(settings, rounds=(replace(settings.rounds[0], steps=INVERSION_STEPS),))
    found: list[float] = []
    for part in truth.split(batch):
        problem = Problem(build("identity", model.resolution), resize(part, model.resolution))
        *_, last = solve(model, problem, settings, due=lambda: False, perceptual=None)
        assert last.result is not None
        found += mse(resize(last.result.image.clamp(-1, 1), part.shape[-1]).clamp(-1, 1), part).tolist()
    return found


def measure(models: list[Model], data: Path, work: Path, count: int, samples: int, batch: int) -> dict[str, Any]:
    """The figures of each model, by its id, at the resolution of the largest."""
    side = max(model.resolution for model in models)
    photos = read_faces(data, side, work)
    unseen, _ = read_tars([data / "utkface128-val.tar"], side, work / f"unseen{side}.npz", label)
    truth = from_uint8(unseen[np.random.default_rng(0).permutation(len(unseen))[:count]])  # sorted by age
    network = classifier.load("robust64")
    kept = work / f"features-{network.sha256[:12]}-quarters{side}.npy"
    if not kept.exists():
        np.save(kept, features(network, quarters(photos)).numpy())
    real, power = torch.from_numpy(np.load(kept)), detail(photos)
    found: dict[str, Any] = {}
    for model in models:
        pictures = drawn(model, samples, side)
        found[model.id] = {
            "sha256": model.sha256,
            "frechet": frechet_distance(real, features(network, quarters(pictures))),
            "inversion": summary(inverted(model, truth, batch)),
            "spectrum": detail(pictures) / power,
        }
        print(row(model.id, found[model.id]), flush=True)
    return found


def row(name: str, found: dict[str, Any]) -> str:
    """The figures of a model as one line, with errors times 1,000."""
    error = found["inversion"]
    return (
        f"{name}: frechet {found['frechet']:.3f} · inversion {error['mse'] * 1e3:.2f} ± "
        f"{error['standard_error'] * 1e3:.2f} · spectrum {found['spectrum']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--before", default="faces64", help="the smaller generator; default faces64")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="file of results by model, to which these are added")
    parser.add_argument("--faces", type=int, default=50, help="number of faces to invert")
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    args.work.mkdir(parents=True, exist_ok=True)
    models = [load(args.before), load(args.model)]
    if models[1].resolution != 2 * models[0].resolution:
        sides = " and ".join(str(model.resolution) for model in models)
        parser.error(
            f"the pictures of --before and of the model have {sides} pixels; the second must be twice the first"
        )
    found = measure(models, args.data, args.work, args.faces, args.samples, args.batch)
    if args.out is not None:
        results = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.write_text(json.dumps(results | found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
