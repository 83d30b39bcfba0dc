"""The command line: `python -m ilo solve | replay | models | compile | tasks`.

Exit codes: 0 done; 1 a replay gives a different picture; 2 wrong input, with a one-line message; 130 stopped by ctrl-C,
with the best result so far saved. Only the commands that need torch import it, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ilo.cli import options as cli_options
from ilo.cli import settings as cli_settings
from ilo.settings import SettingsError, SolverSettings, check_whole
from ilo.text.words import shown

if TYPE_CHECKING:
    import torch

    from ilo.guidance import Guidance
    from ilo.perceptual.base import Perceptual
    from ilo.priors.load import Model
    from ilo.problem import Problem
    from ilo.records.recipe import Recipe
    from ilo.records.recorder import Recorder
    from ilo.state import Result

DIFFERENT, MISTAKE, INTERRUPTED = 1, 2, 130
PREVIEW_SECONDS = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        options = cli_options.parser().parse_args(argv)
        return _COMMANDS[options.command](options)
    except SystemExit as done:  # of argparse
        return int(done.code or 0)
    except KeyboardInterrupt:
        print("ilo: stopped", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not _is_mistake(error):
            raise
        print(f"ilo: {cli_options.one_line(str(error))}", file=sys.stderr)
        return MISTAKE


def _is_mistake(error: Exception) -> bool:
    """Whether the user can correct the error; any other error is a bug and keeps its traceback."""
    from ilo.classifiers.classifier import ClassifierError
    from ilo.photos.pictures import PictureError
    from ilo.priors.stylegan2.checkpoint import CheckpointError
    from ilo.records.bundle import BundleError
    from ilo.weights.download import DownloadError

    return isinstance(
        error, (SettingsError, PictureError, CheckpointError, ClassifierError, BundleError, DownloadError)
    )


def _solve(options: argparse.Namespace) -> int:
    cli_options.check_solve(options)
    morphing = options.task == cli_options.MORPH
    settings = None if morphing else cli_settings.solver_settings(options)  # so that a mistake shows at once

    from ilo.cli import pictures as cli_pictures
    from ilo.engine.compiling import batch_of, chosen
    from ilo.priors.load import load
    from ilo.records.recipe import make_recipe
    from ilo.records.recorder import Recorder
    from ilo.records.saving import check_out_folder
    from ilo.weights import registry

    check_out_folder(options.out)
    with _threads(options.threads):
        model = load(options.model or registry.DEFAULT, _device(options.device))
        problem: Problem | Guidance
        if settings is None:
            settings = cli_settings.morph_settings(options, model.layers)
            problem, image, placed, notes = cli_pictures.guidance(options, model)
        else:
            _check_format(model, settings)
            _check_fits(model, settings)
            problem, image, placed, notes = cli_pictures.problem(options, model)
            settings = cli_settings.solver_settings(options, problem, model)
        perceptual = _perceptual(model) if settings.weights.perceptual else None
        model = chosen(model, settings, batch_of(len(problem), settings), options.engine)
        recipe = make_recipe(
            model,
            problem,
            settings,
            damaged_here=not options.damaged and not morphing,
            measurement_seed=options.measurement_seed,
            input_image=image,
            perceptual=perceptual,
        )
        recorder = Recorder(recipe, problem, image, placed)
        for note in notes:
            print(note)
        _run(model, problem, settings, perceptual, recorder)
        return _finish(recorder, options.out, model)


def _replay(options: argparse.Namespace) -> int:
    from ilo.cli import compiling as cli_compiling
    from ilo.records.archive import read_file
    from ilo.records.bundle import BundleError, answer_names, png_limit, read_problem, read_recipe
    from ilo.records.recorder import Recorder
    from ilo.records.saving import check_out_folder

    recipe = read_recipe(options.run)
    if options.out is not None:
        check_out_folder(options.out)
        if options.out.resolve() == options.run.resolve():
            raise BundleError(f"--out is the folder of the run itself ({options.out}); give another folder.")
    with _threads(_recorded_threads(recipe) if options.threads is None else options.threads):
        given = None if options.model is None else _model(options, recipe)
        problem, image = read_problem(options.run, recipe, options.classifier, _resolution(recipe, given))
        if read_file(options.run, "result.png", png_limit(recipe.resolution)) is None:
            raise BundleError(f"{options.run} contains no result.png to compare with.")
        model = given or _model(options, recipe)
        _check_fits(model, recipe.settings)  # so that the pictures to compare fit, too
        recorded = {}
        for name in ("result.png", *answer_names(recipe.settings.samples)):
            data = read_file(options.run, name, png_limit(recipe.resolution))
            if data is None:
                raise BundleError(f"{options.run} contains no {name} to compare with.")
            recorded[name] = data
        model = cli_compiling.recorded_engine(recipe, model, len(problem), options.engine)
        run_by = _engine_of(recipe)
        recipe, perceptual = _as_now(recipe, model)
        recorder = Recorder(recipe, problem, image)
        if not _run(model, problem, recipe.settings, perceptual, recorder, recipe.stopped_at, run_by):
            print("Stopped before the end; nothing to compare.")
            return INTERRUPTED
        assert recorder.result is not None
        same = all([_compare(name, recorded[name], recorder.result, n) for n, name in _answers(recorded)])
        if options.out is not None:
            _save(recorder, options.out, model)
    return 0 if same else DIFFERENT


def _model(options: argparse.Namespace, recipe: Recipe) -> Model:
    """The generator of a recipe, or the one from --model if its weights are the same."""
    from ilo.priors.load import load
    from ilo.records.bundle import BundleError

    model = load(options.model or recipe.model, _device(options.device or _recorded_device(recipe)))
    if model.sha256 != recipe.model_sha256:
        raise BundleError(
            f"The run used other weights of {shown(recipe.model)} than those in {model.path.name}; give the file with "
            "the original weights with --model."
        )
    return model


def _resolution(recipe: Recipe, given: Model | None) -> int | None:
    """Pixels per side of the generator's pictures; does not load a generator from the registry."""
    from ilo.priors.load import file_of
    from ilo.records.bundle import BundleError
    from ilo.weights.registry import BY_ID, ids

    if given is not None:
        return given.resolution
    if recipe.model not in ids("generator"):
        raise BundleError(
            f"The run used the model {shown(recipe.model)}, which the studio does not know; give its file with --model."
        )
    file_of(recipe.model)  # raises an error if it is not downloaded
    return BY_ID[recipe.model].resolution


def _as_now(recipe: Recipe, model: Model) -> tuple[Recipe, Perceptual | None]:
    """The recipe as this machine replays it, and its perceptual distance; prints every difference to the first run."""
    from ilo.engine import engine
    from ilo.records.recipe import differences

    if recipe.settings.scale == "absolute":
        print(
            "The recipe is of version 1, whose radii were per element. They are kept, but the solver has changed, "
            "so the picture may differ.",
            file=sys.stderr,
        )
    now = engine.description(model.device, model.engine, _engine_of(recipe))
    for sentence in differences(recipe.engine, now):
        print(sentence, file=sys.stderr)
    perceptual = _perceptual(model, recipe.perceptual) if recipe.perceptual else None
    name = None if perceptual is None else perceptual.name
    if name != recipe.perceptual:
        was = shown(recipe.perceptual, 40)
        print(f"The perceptual distance was {was} and is {name or 'not available'} now.", file=sys.stderr)
    return replace(recipe, engine=now, perceptual=name), perceptual


def _check_format(model: Model, settings: SolverSettings) -> None:
    """Raises `SettingsError` if the number format is of no use on the device."""
    from ilo.engine import formats

    formats.check(model.device, settings.dtype)


def _check_fits(model: Model, settings: SolverSettings) -> None:
    """Raises `SettingsError` if the generator has too few layers, or the memory is too small for all answers."""
    from ilo.engine.engine import has_room
    from ilo.solver import check_rounds

    check_rounds(model, settings)
    has_room(model, settings, settings.samples)


def _answers(names: Iterable[str]) -> list[tuple[int, str]]:
    """The number of the answer that each file shows: result.png shows the first one, too."""
    first, *others = names
    return [(0, first), *enumerate(others)]


def _compare(name: str, recorded: bytes, result: Result, answer: int) -> bool:
    """Whether an answer of the replay equals the recorded file; prints it."""
    import numpy as np

    from ilo.photos.pictures import PictureError, read_picture
    from ilo.records.saving import result_png
    from ilo.state import to_uint8

    if result_png(result, answer) == recorded:
        print(f"{name} is the same, byte for byte.")
        return True
    now = to_uint8(result.image[answer : answer + 1])[0].astype(int)
    try:
        before = np.asarray(read_picture(recorded, 1, now.shape[0])).astype(int)
    except PictureError as error:
        print(f"{name} differs, and the recorded one cannot be compared: {cli_options.one_line(str(error))}")
        return False
    if before.shape != now.shape:
        print(f"{name} differs: it was {before.shape[1]}×{before.shape[0]} and is {now.shape[1]}×{now.shape[0]} px.")
        return False
    apart = np.abs(before - now).max(2)
    print(
        f"{name} differs in {np.count_nonzero(apart):,} of {apart.size:,} pixels, by at most {apart.max()} of 255 "
        "levels."
    )
    return False


def _run(
    model: Model,
    problem: Problem | Guidance,
    settings: SolverSettings,
    perceptual: Perceptual | None,
    recorder: Recorder,
    stop_at: int | None = None,
    run_by: str | None = None,
) -> bool:
    """Solve with a progress bar, up to step `stop_at` if it is given; False if ctrl-C stopped it earlier.

    `run_by`: see `ilo.solve`.
    """
    from tqdm import tqdm

    from ilo.guidance import Guidance
    from ilo.morph import morph
    from ilo.solver import every, solve

    due = every(PREVIEW_SECONDS)
    if isinstance(problem, Guidance):
        steps = morph(model, problem, settings, recorder.input_image, due, stop_at=stop_at, run_by=run_by)
    else:
        steps = solve(model, problem, settings, due, perceptual, stop_at=stop_at, run_by=run_by)
    try:
        first = next(steps)  # raises errors about the settings before the bar appears
        with tqdm(total=first.total, unit="step", dynamic_ncols=True) as bar:
            for step in itertools.chain([first], steps):
                recorder.add(step)
                number = step.round - settings.first_layer + 1
                where = "inversion" if step.inverting else f"round {number} of {len(settings.rounds)}"
                bar.set_postfix_str(f"{where}, loss {step.losses['total'][0]:.4f}", refresh=False)
                bar.update(step.done - bar.n)
    except KeyboardInterrupt:
        return False
    finally:
        steps.close()  # type: ignore[attr-defined]
    return True


def _finish(recorder: Recorder, folder: Path, model: Model) -> int:
    """Save the result, also of a stopped run, and print its errors."""
    from ilo.cli import report as cli_report

    if recorder.result is None:
        print("Stopped before the first step; nothing to save.")
        return INTERRUPTED
    _save(recorder, folder, model)
    if not recorder.complete:
        print(f"Stopped after {recorder.stopped_at} of {recorder.total} steps.")
    print("\n".join(cli_report.lines(recorder.problem, recorder.result)))
    return 0 if recorder.complete else INTERRUPTED


def _save(recorder: Recorder, folder: Path, model: Model) -> None:
    from ilo.records.saving import write_bundle

    print(f"Saved in {write_bundle(recorder, folder, model)}")


def _models(options: argparse.Namespace) -> int:
    from ilo.cli import models as cli_models

    return cli_models.COMMANDS[options.action](options)


def _compile(options: argparse.Namespace) -> int:
    from ilo.cli import compiling as cli_compiling

    with _threads(options.threads):
        return cli_compiling.compile_model(options)


def _tasks(options: argparse.Namespace) -> int:
    from ilo.cli import tasks

    print(tasks.table() if options.markdown else tasks.listed(cli_options.operator_options()))
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "solve": _solve,
    "replay": _replay,
    "models": _models,
    "compile": _compile,
    "tasks": _tasks,
}


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set torch's number of threads inside the block; None leaves it unchanged."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        check_whole("threads", count, 1, 1024)
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _recorded_threads(recipe: Recipe) -> int | None:
    """The number of threads of the recorded run, but at most this machine's cores; prints a reduction."""
    count, cores = recipe.engine.get("threads"), os.cpu_count() or 1
    if not isinstance(count, int) or count < 1:
        return None
    if count > cores:
        print(f"The run used {count:,} threads; this machine has {cores} cores, so {cores} are used.", file=sys.stderr)
    return min(count, cores)


def _engine_of(recipe: Recipe) -> str:
    """What ran the recorded steps; see `ilo.engine.graph`."""
    return str(recipe.engine.get("engine", ""))


def _recorded_device(recipe: Recipe) -> str:
    """A GPU's run is repeated on a GPU if there is one, any other on the CPU."""
    return "auto" if recipe.engine.get("device") == "cuda" else "cpu"


def _device(name: str | None) -> torch.device:
    """The device with a name; prints why a GPU that is here is not used."""
    from ilo.engine import devices

    chosen = devices.choose(name)
    if chosen.note:
        print(chosen.note, file=sys.stderr)
    return chosen.device


def _perceptual(model: Model, name: str | None = None) -> Perceptual:
    """The perceptual distance of this installation or of a recipe; a broken file raises `SettingsError`."""
    from ilo.perceptual.find import find_perceptual

    try:
        return find_perceptual(model.device, name)
    except ValueError as error:
        raise SettingsError(str(error)) from None
