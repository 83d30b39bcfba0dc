"""Measure the quality table: ILO, CSGM, PULSE and each task's classical baseline on 50 photographs, Quick preset.

    python -m benchmarks.quality [--pictures 50] [--rows …] [--methods …] [--batch 10] [--model faces64]

Solvers never see the truth; one seed is used; observed pixels are not pasted into the results. Each figure is stored in
benchmarks/results/quality.json at once (quality-MODEL.json for another model than the default), so an interrupted run
continues where it stopped; figures made with other weights or settings are measured again. `--table` prints the table
of the stored figures; `--grid FILE` draws reconstructions of the example photograph.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import faces, rows
from benchmarks.step import RESULTS
from ilo import Problem, SolverSettings, load, preset, solve
from ilo import methods as registry
from ilo.baselines.classical import baseline
from ilo.engine import devices
from ilo.operators import Operator
from ilo.perceptual.classifier_features import robust_features
from ilo.photos.pictures import Crop, to_tensor
from ilo.priors.load import Model
from ilo.records.metrics import report
from ilo.state import to_uint8
from ilo.ui import examples
from ilo.weights.registry import DEFAULT

VARIANTS = {"ilo × 4": "ILO, mean of 4", "ilo + features": "ILO + features", "ilo + range": "ILO + range"}
ANSWERS = 4
TITLES = {name: method.title for name, method in registry.METHODS.items()} | VARIANTS
METHODS = (*TITLES, "classical")
HOLES = ("inpainting, painted eyes",)  # whose goal counts inside the hole
GOALS = {  # CSGM : ILO
    "inpainting, 10 % of pixels": 1.25,
    "inpainting, 20 % of pixels": 2.0,
    "inpainting, 50 % of pixels": 2.0,
    "inpainting, painted eyes": 1.25,
    "denoising, σ = 25": 1.8,
    "denoising, σ = 50": 1.3,
    "super-resolution, ×4": 1.35,
    "compressed sensing, 5 %": 1.4,
    "compressed sensing, 20 %": 2.0,
}


def settings_of(method: str, dtype: str, operator: Operator, model: Model) -> SolverSettings:
    """The Quick preset of a method; "ilo + range" splits the steps of each later round around one range projection.

    "ilo + features" is ILO with the perceptual term of the embedded robust classifier; the others have no such term.
    "ilo × 4" is the mean of four answers, from four seeds.
    """
    settings = replace(preset("Quick", method.split()[0], operator=operator, prior=model), dtype=dtype)  # type: ignore[arg-type]
    if method == "ilo × 4":
        return replace(settings, samples=ANSWERS)
    if method != "ilo + range":
        return settings
    first, *later = settings.rounds
    fifth = [plan.steps // 5 for plan in later]
    split = [
        replace(plan, steps=2 * n, range_steps=plan.steps - 4 * n, outer_iterations=2)
        for plan, n in zip(later, fifth, strict=True)
    ]
    return replace(settings, rounds=(first, *split))


def reconstruct(model: Model, method: str, row: str, problem: Problem, dtype: str) -> Tensor:
    if method == "classical":
        parts = [baseline(problem.operator, y, **rows.CLASSICAL.get(row, {})) for y in problem.y.split(1)]
        return torch.cat(parts).clamp(-1, 1)
    settings = settings_of(method, dtype, problem.operator, model)
    perceptual = robust_features(model.device) if method == "ilo + features" else None
    *_, last = solve(model, problem, settings, due=lambda: False, perceptual=perceptual)
    assert last.result is not None
    return last.result.mean  # of a single answer: itself, within [−1, 1]


def measure(model: Model, method: str, row: str, truth: Tensor, batch: int, dtype: str) -> dict[str, float]:
    """Mean MSE on [0, 1], PSNR and SSIM over the pictures; for masks also inside the hole."""
    operator = rows.operator(row, model.resolution)
    hole = rows.hole(operator)
    reports = []
    for part in truth.split(batch):
        images = reconstruct(model, method, row, Problem.damage(part, operator), dtype)
        reports += [report(a, b, hole) for a, b in zip(images.split(1), part.split(1), strict=True)]
    return {key: float(np.mean([r[key] for r in reports])) for key in reports[0]}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown table: mean MSE × 10³ of every measured method, the ratio CSGM : ILO, and ILO's PSNR and SSIM."""
    methods = [method for method in METHODS if any(method in got for got in results.values())]
    head = ["task", *(TITLES.get(method, method) for method in methods), "CSGM : ILO", "goal", "ILO PSNR", "ILO SSIM"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows.ROWS:
        got = results.get(row, {})
        for suffix, title in (("", row), ("_hole", f"{row}, hole alone")):
            if f"mse{suffix}" not in got.get("ilo", {}):
                continue
            errors = [f"{got[m][f'mse{suffix}'] * 1e3:.2f}" if m in got else "" for m in methods]
            ratio = f"{got['csgm'][f'mse{suffix}'] / got['ilo'][f'mse{suffix}']:.2f}" if "csgm" in got else ""
            goal = f"{GOALS[row]:g}" if row in GOALS and (suffix == "_hole") == (row in HOLES) else ""
            ours = got["ilo"]
            cells = [title, *errors, ratio, goal, f"{ours[f'psnr{suffix}']:.1f}", f"{ours[f'ssim{suffix}']:.3f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kept(path: Path, model: Model, dtype: str) -> dict[str, dict[str, Any]]:
    """Stored figures made with these weights and settings, by row and method."""
    found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    return {
        row: {m: v for m, v in got.items() if made_with(model, m, row, dtype).items() <= v.items()}
        for row, got in found.items()
    }


def made_with(model: Model, method: str, row: str, dtype: str) -> dict[str, str]:
    """Hashes of the weights and settings that a figure depends on."""
    settings = (
        None
        if method == "classical"
        else settings_of(method, dtype, rows.operator(row, model.resolution), model).to_dict()
    )
    return {
        "model": model.sha256,
        "dtype": dtype,
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
    }


def grid(model: Model, truth: Tensor, names: list[str], dtype: str) -> Image.Image:
    """One row of pictures per task for a face [1, 3, R, R]: measurement, each method, truth."""
    lines = []
    for row in names:
        problem = Problem.damage(truth, rows.operator(row, model.resolution))
        pictures = [problem.operator.picture(problem.y)]
        pictures += [reconstruct(model, method, row, problem, dtype) for method in METHODS if method not in VARIANTS]
        lines.append(np.concatenate([to_uint8(p)[0] for p in (*pictures, truth)], 1))
    picture = Image.fromarray(np.concatenate(lines))
    return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--rows", nargs="*", default=list(rows.ROWS), choices=list(rows.ROWS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--fresh", action="store_true", help="measure again, ignoring stored figures")
    parser.add_argument("--model", default=DEFAULT, help="name or file of a generator")
    parser.add_argument("--out", type=Path, help="file of the figures")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps; default: ILO_DEVICE, or auto")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--grid", type=Path)
    args = parser.parse_args()

    model = load(args.model, devices.choose(args.device).device)
    usual = "quality.json" if args.model == DEFAULT else f"quality-{Path(args.model).stem}.json"
    out = args.out or RESULTS / usual
    results = kept(out, model, args.dtype)
    if args.table:
        print(table(results))
        return
    if args.grid:
        shown = examples.load()[0]  # a photograph in the public domain
        face = to_tensor(shown.image, model.resolution, Crop(*shown.crop))
        grid(model, face, args.rows, args.dtype).save(args.grid)
        return
    truth = faces.for_measuring(args.pictures, model.resolution)
    out.parent.mkdir(exist_ok=True)
    for row in args.rows:
        for method in args.methods:
            if method in results.get(row, {}) and not args.fresh:
                continue
            if method == "ilo + features" and not rows.operator(row, model.resolution).compares_features:
                continue  # too few pixels are measured to use features, so it equals ILO
            measured = measure(model, method, row, truth, args.batch, args.dtype)
            about = {"pictures": args.pictures} | made_with(model, method, row, args.dtype)
            results.setdefault(row, {})[method] = measured | about
            out.write_text(json.dumps(results, indent=1, ensure_ascii=False))
            print(f"{row} · {method}: {measured}", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
