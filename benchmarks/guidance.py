"""Evaluate guided runs with a second robust classifier and a face detector.

    python -m benchmarks.guidance classes [--seeds 2] [--runs …]   # all classes, with every guidance method
    python -m benchmarks.guidance radii [--classes 20]             # all radii times 0, ¼ … 4, and the plot

The judge (benchmarks/judge64.safetensors) is a robust classifier with another architecture and seed that is never used
for guidance. Faces are detected by YuNet, whose file is given by ILO_YUNET or lies in the shared folder beside the
checkout. Each result is stored in benchmarks/results at once, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.step import RESULTS
from ilo import load
from ilo.classifiers import classifier
from ilo.classifiers.classifier import Classifier
from ilo.guidance import Guidance
from ilo.methods import morph_preset
from ilo.morph import TRUNCATION
from ilo.perceptual.classifier_features import ClassifierFeatures
from ilo.priors.load import Model
from ilo.solver import solve
from ilo.state import to_uint8

JUDGE = Path(__file__).parent / "judge64.safetensors"
YUNET = Path(__file__).parents[2] / "shared" / "models" / "face_detection_yunet_2023mar.onnx"
RUNS = {f"{guide}, {method}": (guide, method) for guide in classifier.EMBEDDED for method in ("ilo", "pixels")}
REACHES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
FACE_SIDE = 192  # side in pixels to which a picture is enlarged before face detection
FACE_SCORE = 0.6  # minimum YuNet score; its default for photographs is 0.9


def detector() -> Callable[[np.ndarray], bool]:
    """A function that tells whether YuNet finds a face in uint8 [R, R, 3]."""
    path = Path(os.environ.get("ILO_YUNET", YUNET))
    # Put the enlarged picture in a grey frame, because crops are tighter than the detector's training pictures.
    side = 2 * FACE_SIDE
    net = cv2.FaceDetectorYN.create(str(path), "", (side, side), score_threshold=FACE_SCORE)

    def found(pixels: np.ndarray) -> bool:
        large = cv2.resize(pixels[:, :, ::-1], (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_CUBIC)
        framed = np.full((side, side, 3), 128, np.uint8)
        edge = FACE_SIDE // 2
        framed[edge : edge + FACE_SIDE, edge : edge + FACE_SIDE] = large
        return net.detect(framed)[1] is not None

    return found


def guided(
    model: Model, guide: Classifier, name: str, method: str, seeds: int, reach: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Starting faces of seeds 0 … and their results with the Quick preset, [seeds, 3, R, R] each."""
    settings = morph_preset("Quick", method, layers=model.layers, reach=reach)
    start = model.sample(0, settings, TRUNCATION, seeds)
    guidance = Guidance(guide, {name: 1.0}, batch=seeds)
    *_, last = solve(model, guidance, settings, due=lambda: False, perceptual=None, start=start)
    assert last.result is not None
    with torch.no_grad():
        before = model.render(start, settings)
    return before.clamp(-1, 1), last.result.image.clamp(-1, 1)


@torch.no_grad()
def judged(guide: Classifier, judge: Classifier, face: Callable, name: str, before: Tensor, after: Tensor) -> dict:
    """Evaluate results with the guide, the judge and the face detector."""
    wanted = guide.index(name)
    distance = ClassifierFeatures(judge)
    return {
        "probability": guide(after).softmax(1)[:, wanted].tolist(),
        "judge": (judge(after).argmax(1) == judge.index(name)).tolist(),
        "distance": distance(before, after).tolist(),
        "face": [face(pixels) for pixels in to_uint8(after)],
    }


def summary(records: list[dict[str, Any]]) -> dict[str, float]:
    """Means over all runs."""
    return {key: float(np.mean([v for r in records for v in r[key]])) for key in records[0]}


def table(results: dict[str, dict[str, dict]]) -> str:
    """Markdown table with one row per guidance method."""
    lines = [
        "| guidance | runs | p(class), guide | top-1, judge | face found | distance |",
        "|---|---|---|---|---|---|",
    ]
    for run, by_class in results.items():
        if by_class:
            s = summary(list(by_class.values()))
            count = sum(len(r["face"]) for r in by_class.values())
            lines.append(
                f"| {run} | {count} | {s['probability']:.2f} | {100 * s['judge']:.0f} % | {100 * s['face']:.0f} % "
                f"| {s['distance']:.3f} |"
            )
    return "\n".join(lines)


def measure(
    path: Path, about: Callable[[str], dict[str, Any]], cells: list[tuple[str, str]], cell: Callable[[str, str], dict]
) -> dict[str, dict[str, dict]]:
    """Fill a table of (row, class) in the JSON file `path`; rows made with other settings are measured again."""
    stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for row, name in cells:
        if stored.get(row, {}).get("about") != about(row):
            stored[row] = {"about": about(row), "results": {}}
        results = stored[row]["results"]
        if name not in results:
            results[name] = cell(row, name)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(stored, indent=1, ensure_ascii=False))
            partial.replace(path)
            print(row, name, summary([results[name]]), flush=True)
    return {row: made["results"] for row, made in stored.items()}


def plot(results: dict[str, dict[str, dict]], path: Path) -> None:
    """Plot the judge's accuracy, detected faces and distance against the radius."""
    import matplotlib.pyplot as plt

    means = {float(reach): summary(list(by_class.values())) for reach, by_class in results.items()}
    reaches = sorted(means)
    places = range(len(reaches))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for key, label in (("judge", "judge sees the class"), ("face", "YuNet finds a face"), ("probability", "p, guide")):
        left.plot(places, [100 * means[r][key] for r in reaches], marker="o", label=label)
    left.set(xlabel="every radius times", ylabel="%")
    left.legend()
    right.plot(places, [means[r]["distance"] for r in reaches], marker="o")
    right.set(xlabel="every radius times", ylabel="distance to the start, judge's features")
    for axes in (left, right):
        axes.set_xticks(list(places), [f"{r:g}" for r in reaches])
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["classes", "radii"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--classes", type=int, help="number of classes, evenly spaced")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--judge", default=str(JUDGE))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    model, judge, face = load(), classifier.load(args.judge), detector()
    wanted = {RUNS[run][0] for run in args.runs} if args.what == "classes" else {"robust64"}
    guides = {name: classifier.load(name) for name in sorted(wanted)}
    layers = model.layers

    def about(row: str) -> dict[str, Any]:
        guide, method = RUNS.get(row, ("robust64", "ilo"))
        return {
            "seeds": args.seeds,
            "judge": judge.sha256,
            "model": model.sha256,
            "guide": guides[guide].sha256,
            "settings": morph_preset("Quick", method, layers=layers).to_dict(),
        }

    names = next(iter(guides.values())).names
    if args.classes:
        names = names[:: max(1, len(names) // args.classes)][: args.classes]
    args.out.mkdir(parents=True, exist_ok=True)

    if args.what == "classes":

        def cell(row: str, name: str) -> dict:
            guide, method = guides[RUNS[row][0]], RUNS[row][1]
            return judged(guide, judge, face, name, *guided(model, guide, name, method, args.seeds))

        cells = [(run, name) for run in args.runs for name in names]
        print(table(measure(args.out / "guidance-classes.json", about, cells, cell)))
        return

    def swept(row: str, name: str) -> dict:
        guide = guides["robust64"]
        pictures = guided(model, guide, name, "ilo", args.seeds, reach=float(row))
        return judged(guide, judge, face, name, *pictures)

    cells = [(str(reach), name) for reach in REACHES for name in names]
    results = measure(args.out / "guidance-radii.json", about, cells, swept)
    print(table(results))
    plot(results, args.out / "guidance-radii.png")


if __name__ == "__main__":
    main()
