"""Measure milliseconds per optimisation step in each round.

    python -m benchmarks.step [--repeats 7] [--steps 20] [--dtype float32]  # 64 px, compared with a plain baseline
    python -m benchmarks.step --model FILE --batch 4 --threads 1 --cpu-time  # another generator, on a busy machine
    python -m benchmarks.step --size 256 [--device cuda] [--checkpointed]   # or 512, 1024: FFHQ architectures

At 64 px, steps of the implementations alternate, so that disturbances on the machine affect all equally; the compiled
engine is among them if its code is in the cache (`python -m ilo compile`). The larger networks have random weights,
which affects neither time nor memory. Medians are reported. Memory is what a run needs in addition to the loaded
network, both measured and as estimated by `ilo.priors.stylegan2.memory`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.plain import PlainGenerator, PlainRound
from ilo import load, preset
from ilo.engine import compiling, devices, engine, memory
from ilo.engine.formats import computing_in
from ilo.engine.graph import CUDA_GRAPH, EAGER, engine_for
from ilo.objective import MeasurementObjective
from ilo.operators import build
from ilo.priors.load import Model, usual_config
from ilo.priors.stylegan2 import latents
from ilo.priors.stylegan2.network import Generator
from ilo.priors.stylegan2.prior import DTYPES, point
from ilo.problem import Problem
from ilo.search import LayerSearch
from ilo.weights import registry

WARM_UP = 3
LARGE = (256, 512, 1024)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--model", default=registry.DEFAULT, help="generator to compare with the plain baseline")
    parser.add_argument("--batch", type=int, default=1, help="samples at once, for the same comparison")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--cpu-time", action="store_true", help="measure the processor's time instead of the clock's")
    parser.add_argument("--compile", action="store_true", help="first compile what is not in the cache")
    parser.add_argument("--size", type=int, default=64, choices=[64, *LARGE])
    parser.add_argument("--device", default="cpu", help="for the larger sizes: auto, cpu, cuda or cuda:N")
    parser.add_argument("--engine", choices=[EAGER, CUDA_GRAPH], help="for --device cuda; default: CUDA graphs")
    parser.add_argument("--checkpointed", action="store_true", help="for the larger sizes")
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.size == 64:
        beside_plain(args)
    else:
        large(args)


def beside_plain(args: argparse.Namespace) -> None:
    """Measure the embedded generator beside the plain baseline."""
    model = load(args.model)
    settings = replace(preset("Quick"), dtype=args.dtype)
    priors = {"ms": engine.prepare(model, settings)}
    compiled, seconds = with_code(model, args)
    if compiled is not None:
        priors["compiled_ms"] = compiled
    state = model.draw(seed=0, batch=args.batch)
    with torch.no_grad():
        truth = model.render(model.draw(seed=1), settings).clamp(-1, 1)
        z, noise, _ = point(state)
        plain = PlainGenerator(model)(model.latents(z), list(noise))
        same = (plain - model.render(state, settings)).abs().max()
    print(f"largest difference between the two networks' pictures: {float(same):.1e}")
    problem = Problem.damage(truth, build("random-inpaint", model.resolution, fraction=0.1)).repeated(args.batch)
    objective = MeasurementObjective(problem, settings.weights, None)
    clock = time.process_time if args.cpu_time else time.perf_counter

    rows = []
    for k, plan in enumerate(settings.rounds):
        if k:
            state = model.enter(state, k, settings)
        long = replace(plan, steps=args.steps)
        times: dict[str, list[float]] = {}
        for _ in range(args.repeats):
            searches: dict[str, LayerSearch | PlainRound] = {
                name: LayerSearch(prior, objective, state, long, settings) for name, prior in priors.items()
            }
            searches["plain_ms"] = PlainRound(model, problem, state, long)
            for name, search in searches.items():
                times.setdefault(name, []).append(milliseconds(search.step, args.steps, clock))
        rows.append({"round": k, "steps": plan.steps, **{name: statistics.median(t) for name, t in times.items()}})
    columns = list(times)
    whole = {
        name: sum(row[name] * row["steps"] for row in rows) / sum(row["steps"] for row in rows) for name in columns
    }
    print(f"| round | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for title, row in [*((row["round"], row) for row in rows), ("Quick run, mean", whole)]:
        print(f"| {title} | {' | '.join(f'{row[name]:.1f}' for name in columns)} |")
    ratios = {name: whole[columns[-1]] / whole[name] for name in columns}
    print(f"{columns[-1]} divided by the others: " + ", ".join(f"{name} {ratios[name]:.2f}" for name in columns))
    found = {"rounds": rows, "ratios": ratios, "batch": args.batch, "cpu_time": args.cpu_time, **seconds}
    name = "" if args.model == registry.DEFAULT else model.id
    save(found, args, model, "-".join(filter(None, (name, "" if args.batch == 1 else f"batch{args.batch}"))))


def with_code(model: Model, args: argparse.Namespace) -> tuple[Model | None, dict[str, float]]:
    """The model with compiled code, and the seconds that compiling and loading took; None if there is no code."""
    seconds = {}
    try:
        if args.compile:
            seconds["compile_s"] = sum(spent for _, spent in compiling.build(model, args.batch))
        start = time.perf_counter()
        compiled = compiling.load(model, args.batch)
        seconds["load_s"] = time.perf_counter() - start
    except compiling.NotReadyError as error:
        print(f"The compiled engine is left out: {error}.")
        return None, seconds
    print("compiled engine: " + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    return compiled, seconds


def large(args: argparse.Namespace) -> None:
    """Measure a network with the architecture of the FFHQ generators."""
    device = devices.choose(args.device).device
    model = random_model(args.size, device)
    settings = replace(preset("Quick"), dtype=args.dtype)
    prior = engine.prepare(model, settings)
    if args.checkpointed:
        prior = prior.frugal()
    state = model.draw(seed=0)
    with torch.no_grad():
        truth = torch.rand(1, 3, args.size, args.size, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    problem = Problem.damage(truth, build("random-inpaint", args.size, fraction=0.1)).to(device)
    objective = MeasurementObjective(problem, settings.weights, None)
    before, runner = peak(device), engine_for(device, EAGER, args.engine)
    rows = []
    for k, plan in enumerate(settings.rounds):
        if k:
            state = prior.enter(state, k, settings)
        search = LayerSearch(prior, objective, state, replace(plan, steps=1000), settings, engine=runner)
        times = []
        with computing_in(args.dtype, device):
            for _ in range(args.steps):
                start = time.perf_counter()
                search.step()
                synchronise(device)
                times.append(1e3 * (time.perf_counter() - start))
        rows.append({"round": k, "steps": plan.steps, "ms": statistics.median(times[1:])})
        print(f"{args.size} px, round {k}: {rows[-1]['ms']:,.1f} ms per step", flush=True)
    mean = sum(row["ms"] * row["steps"] for row in rows) / sum(row["steps"] for row in rows)
    plain = replace(settings, weights=replace(settings.weights, perceptual=0))
    found = {
        "size": args.size,
        "checkpointed": args.checkpointed,
        "ms": mean,
        "memory": peak(device) - before,
        "memory_estimated": model.memory_needed(plain, frugal=args.checkpointed),
    }
    print(
        f"| {args.size} px | {mean:,.0f} ms per step of a Quick run | {memory.gigabytes(found['memory'])} "
        f"(estimated {memory.gigabytes(found['memory_estimated'])}) |"
    )
    save({"rounds": rows, **found}, args, model, f"{args.size}{'-checkpointed' if args.checkpointed else ''}")


def random_model(size: int, device: torch.device) -> Model:
    """A generator with random weights and the architecture of the official FFHQ networks."""
    torch.manual_seed(0)
    generator = Generator(usual_config(size)).to(device).freeze()
    return Model("random", generator, latents.fit(generator, 2000).to(device), Path(), "")


def peak(device: torch.device) -> int:
    """Peak memory use in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def save(found: dict, args: argparse.Namespace, model: Model, size: str = "") -> None:
    RESULTS.mkdir(exist_ok=True)
    about = {"dtype": args.dtype, **engine.description(model.device)}
    processor = str(about["processor"]).lower().replace(" ", "-")
    name = "-".join(part for part in ("step", size, args.dtype, processor) if part)
    (RESULTS / f"{name}.json").write_text(json.dumps({**found, **about}, indent=1))


def milliseconds(step: Callable[[], None], steps: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Mean time per step in milliseconds, without the first few."""
    for _ in range(WARM_UP):
        step()
    start = clock()
    for _ in range(WARM_UP, steps):
        step()
    return (clock() - start) / (steps - WARM_UP) * 1e3


if __name__ == "__main__":
    main()
