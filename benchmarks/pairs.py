"""Compare two generators face by face: which one's reconstruction looks more like the truth?

    python -m benchmarks.pairs [--models faces64 faces128] [--pictures 50] [--batch 10]

Every face is damaged at each generator's own resolution and restored with ILO's Quick preset, as on the page. The
smaller result is enlarged to the larger one's size, where both are compared with the truth by the distance of a
classifier's features, which sees what is sharp (Zhang et al. 2018, without learned weights). The classifier,
benchmarks/judge64.safetensors, guides no reconstruction.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks import faces, rows
from benchmarks.guidance import JUDGE
from ilo import Problem, load, preset, solve
from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.engine import devices
from ilo.operators.resizing import resize
from ilo.perceptual.base import unit
from ilo.perceptual.classifier_features import ClassifierFeatures
from ilo.priors.load import Model

ROWS = ("super-resolution, ×4", "inpainting, 50 % of pixels")


def restored(model: Model, row: str, truth: Tensor, batch: int) -> Tensor:
    """ILO's results for pictures [N, 3, R, R] of the model's resolution."""
    operator = rows.operator(row, model.resolution)
    settings, found = preset("Quick", operator=operator, prior=model), []
    for part in truth.split(batch):
        problem = Problem.damage(part, operator)
        *_, last = solve(model, problem, settings, due=lambda: False, perceptual=None)
        assert last.result is not None
        found.append(last.result.image.clamp(-1, 1))
    return torch.cat(found)


@torch.no_grad()
def distances(judge: Classifier, images: Tensor, truth: Tensor) -> Tensor:
    """Distance [N] of pictures [N, 3, r, r], enlarged to the size of the truth [N, 3, R, R]."""
    # The network's layers themselves: as a classifier it would reduce every picture to 64 px first.
    features, distance = judge.network.features, ClassifierFeatures(judge).distance
    large = resize(images, truth.shape[-1]).clamp(-1, 1)
    pairs = zip(large.split(10), truth.split(10), strict=True)
    return torch.cat([distance([unit(x) for x in features(a)], [unit(x) for x in features(b)]) for a, b in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs=2, default=["faces64", "faces128"], help="names or files of two generators")
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps; default: ILO_DEVICE, or auto")
    args = parser.parse_args()

    device = devices.choose(args.device).device
    models = [load(name, device) for name in args.models]
    side = max(model.resolution for model in models)
    judge, truth = classifier.load(str(JUDGE)), faces.for_measuring(args.pictures, side)
    print(f"| task | {' | '.join(args.models)} | the second is nearer |\n|---|---|---|---|")
    for row in ROWS:
        own = [restored(m, row, faces.for_measuring(args.pictures, m.resolution), args.batch) for m in models]
        first, second = (distances(judge, images, truth) for images in own)
        share = float((second < first).float().mean())
        print(f"| {row} | {first.mean():.3f} | {second.mean():.3f} | {100 * share:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
