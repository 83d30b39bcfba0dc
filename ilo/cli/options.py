"""The options of the command line.

This module does not import torch; the operators, which declare further options, load when a command needs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from ilo.cli.settings import RADII, dashed
from ilo.cli.values import class_, noise, numbers, percents, share, weights, whole_numbers
from ilo.methods import METHODS, MORPH_METHODS, PRESETS
from ilo.settings import (
    MORPH,
    VERSION,
    Dtype,
    Engine,
    RangeFrom,
    SettingsError,
    check_whole,
)
from ilo.weights import registry


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors that can add further options just before parsing."""

    learn: Callable[[Sequence[str]], None] | None = None  # called once, with the arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        learn, self.learn = self.learn, None
        if learn is not None:
            learn(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ilo: {one_line(message)}. See {self.prog} --help\n")


def one_line(text: str) -> str:
    """`text` without line breaks, and with control characters (which file names may contain) escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def parser() -> Parser:
    """The parser of `python -m ilo`."""
    top = Parser(
        prog="python -m ilo",
        allow_abbrev=False,
        description="ILO Studio: solve inverse problems with a generative model as the prior.",
    )
    top.add_argument("--version", action="version", version=f"ILO Studio {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_solve(commands)
    _add_replay(commands)
    _add_models(commands)
    _add_compile(commands)
    tasks = commands.add_parser("tasks", help="list the tasks, their formulas and settings", allow_abbrev=False)
    tasks.add_argument("--markdown", action="store_true", help="print the tasks as a Markdown table")
    _add_operator_module(tasks)
    return top


def _add_operator_module(command: Parser, group: Any = None) -> None:
    """Add --operator-module to a command, and the loaded operators' options to `group` before parsing."""
    command.add_argument(
        "--operator-module", action="append", metavar="FILE", help="a Python file with your own operators"
    )

    def learn(arguments: Sequence[str]) -> None:
        from ilo.cli import tasks
        from ilo.operators import own

        first = Parser(prog=command.prog, add_help=False, allow_abbrev=False)
        first.add_argument("--operator-module", action="append", default=[])
        own.load(first.parse_known_args(arguments)[0].operator_module)
        if group is not None:
            tasks.add_options(group)

    command.learn = learn


def operator_options() -> dict[str, str]:
    """Setting of an operator → the option of `solve` for it."""
    from ilo.cli import tasks

    return tasks.add_options(_solve_options(Parser(add_help=False)))


def _add_models(commands: Any) -> None:
    models = commands.add_parser("models", help="list, fetch, check, verify or remove models", allow_abbrev=False)
    models.set_defaults(action="list")
    actions = models.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)
    actions.add_parser(
        "list", help="list every known model, its terms, and whether it is downloaded", allow_abbrev=False
    )
    fetch = actions.add_parser("fetch", help="download a model, or resume its download", allow_abbrev=False)
    fetch.add_argument("id", help="name of the model")
    check = actions.add_parser(
        "check", help="report what a weights file contains and whether it can be used", allow_abbrev=False
    )
    check.add_argument("file", help="a .pkl, .pt, .pth, .ckpt or .safetensors file; nothing in it is executed")
    verify = actions.add_parser("verify", help="compare downloaded files with their hashes", allow_abbrev=False)
    verify.add_argument("id", nargs="?", help="name of the model; default: all downloaded models")
    remove = actions.add_parser("remove", help="delete a downloaded model", allow_abbrev=False)
    remove.add_argument("id", help="name of the model")


def _add_solve(commands: Any) -> None:
    solve = commands.add_parser("solve", help="reconstruct a picture", allow_abbrev=False)
    _add_operator_module(solve, _solve_options(solve))


def _solve_options(solve: Parser) -> Any:
    """Add all options of `solve` except those of the operators; returns the group for the operators' options."""
    solve.add_argument("photo", type=Path, nargs="?", help="the picture file; optional for a morph")
    solve.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the results")
    solve.add_argument(
        "--crop",
        type=numbers(3),
        metavar="X,Y,ZOOM",
        help="crop a square: its centre as fractions, and the zoom; default 0.5,0.5,1",
    )
    solve.add_argument(
        "--face",
        type=int,
        metavar="N",
        help="cut out and align the N-th largest face of the photo",
    )
    task = solve.add_argument_group("task")
    _add_task(task)
    _add_morph(solve.add_argument_group("task morph"))
    _add_method(solve.add_argument_group("method"))
    _add_machine(solve.add_argument_group("model and machine"))
    return task


def _add_task(group: Any) -> None:
    group.add_argument("--task", required=True, help="the task, or morph; `python -m ilo tasks` lists all tasks")
    group.add_argument(
        "--mask", help='the part to fill in: an image file (white = fill in), or eyes, mouth, "left half", "centre box"'
    )
    group.add_argument(
        "--noise",
        type=noise,
        metavar="MODEL=σ",
        help="replaces the task's own noise: none, gaussian=σ or clipped-gaussian=σ, with σ on the scale 0–255",
    )
    group.add_argument(
        "--measurement-seed", type=int, default=0, help="random seed of the measurement noise; default 0"
    )
    group.add_argument(
        "--damaged",
        action="store_true",
        help="the photo is already damaged: use it as the measurement; the truth is unknown",
    )
    group.set_defaults(operator=None)  # filled by the options of the operators


def _add_morph(group: Any) -> None:
    group.add_argument(
        "--class",
        dest="classes",
        type=class_,
        action="append",
        metavar="NAME[=WEIGHT]",
        help="target class; repeat for a mix of classes",
    )
    group.add_argument(
        "--classifier", help="robust64 (default), standard64, or a file (.safetensors; .ckpt of a robust ResNet-50)"
    )
    group.add_argument(
        "--reach", type=float, help="factor on every l1 radius; larger values allow more change; default 1"
    )
    group.add_argument(
        "--views", type=int, help="number of shifted, noisy copies over which the loss is averaged; default 0"
    )


def _add_method(group: Any) -> None:
    group.add_argument("--method", choices=tuple(METHODS | MORPH_METHODS), help=_methods())
    group.add_argument("--preset", choices=tuple(PRESETS), help="default Quick")
    group.add_argument(
        "--steps",
        type=whole_numbers,
        metavar="N,N,…",
        help="steps per round; csgm and pulse use their sum in one round",
    )
    for name in RADII:
        group.add_argument(
            f"--{dashed(name)}",
            type=percents,
            metavar="%,%,…",
            help=f"by how much the {name.removeprefix('radius_')} may change from round 1 on, in percent of the sum of "
            "their magnitudes at the round's start (the radius of their l1 ball): one value, or one per round; 0 "
            "freezes them, inf means no limit",
        )
    group.add_argument(
        "--radius-hidden",
        type=share,
        metavar="%",
        help="radius of the features where a mask hides the picture, in percent of that elsewhere, 1 to 100; default "
        "10 for inpaint, else 100",
    )
    group.add_argument("--outer-iterations", type=int, help="number of searches per round, from round 1 on")
    group.add_argument("--range-steps", type=int, help="number of steps of the range projection between two searches")
    group.add_argument("--range-lr", type=float, help="learning rate of the range projection; default 0.1")
    group.add_argument(
        "--range-from",
        choices=get_args(RangeFrom),
        help="what the range projection searches: the layer before, within its own limits (default), or all latents",
    )
    group.add_argument(
        "--samples", type=int, metavar="N", help="number of answers to the measurement, from N starts; default 1"
    )
    group.add_argument(
        "--no-sna",
        dest="sna",
        action="store_const",
        const=False,
        help="compare features without adding noise to the generated picture; matters only for a noisy input and a "
        "perceptual weight above 0",
    )
    group.add_argument(
        "--weights", type=weights, metavar="NAME=X,…", help="weights of the losses mse, perceptual, geodesic, dead_zone"
    )
    group.add_argument(
        "--settings", metavar="JSON", help="a recipe.json, or the solver settings as JSON, instead of the options above"
    )
    group.add_argument("--seed", type=int, help="random seed of the starting point; default 0")
    group.add_argument("--dtype", choices=get_args(Dtype), help="number format of the network; default float32")


def _methods() -> str:
    """What the methods do, for the help."""
    sentences = [f"{name}: {method.sentence}" for name, method in METHODS.items()]
    sentences += [
        f"{name}, for a morph: {MORPH_METHODS[name].sentence}" for name in MORPH_METHODS if name not in METHODS
    ]
    return " ".join(sentences) + " Default ilo."


def _add_machine(group: Any) -> None:
    group.add_argument(
        "--model",
        help=f"name or file (.safetensors, .pkl, .pt) of a generator; default {registry.DEFAULT}, or that of the "
        "replayed run",
    )
    group.add_argument(
        "--device",
        help="auto, cpu, cuda, cuda:N or mps; auto takes an NVIDIA GPU if it works; default: ILO_DEVICE, or auto, or "
        "that of the replayed run",
    )
    group.add_argument("--threads", type=int, help="number of CPU threads; default all, or that of the replayed run")
    group.add_argument(
        "--engine",
        choices=get_args(Engine),
        help="eager; compiled, by `python -m ilo compile`; or auto, which is compiled if the code is there; default: "
        "ILO_ENGINE, or auto, or that of the replayed run",
    )


def _add_compile(commands: Any) -> None:
    compiling = commands.add_parser(
        "compile",
        help="compile a generator for this machine, so that runs take less time",
        allow_abbrev=False,
    )
    compiling.add_argument("--model", default=registry.DEFAULT, help="name or file of a generator; default %(default)s")
    compiling.add_argument(
        "--batch", type=int, default=1, metavar="N", help="number of answers that runs solve at once; default 1"
    )
    compiling.add_argument("--threads", type=int, help="number of CPU threads of the runs; default all")
    compiling.add_argument("--background", action="store_true", help="give way to all other programs")


def _add_replay(commands: Any) -> None:
    replay = commands.add_parser("replay", help="repeat a run and compare its pictures", allow_abbrev=False)
    replay.add_argument("run", type=Path, metavar="RUN", help="the folder or .zip of a run")
    replay.add_argument(
        "--classifier", metavar="FILE", help="file of the classifier of a morph, if it is not an embedded one"
    )
    replay.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the new run")
    _add_machine(replay)
    _add_operator_module(replay)


def check_solve(options: argparse.Namespace) -> None:
    """Raises `SettingsError` for options that contradict each other."""
    if options.face is not None:
        check_whole("--face", options.face, 1, 1000)
        if options.photo is None:
            raise SettingsError("--face needs a photo; give its file as the first argument.")
        if options.crop or options.damaged:
            raise SettingsError(f"--face and --{'crop' if options.crop else 'damaged'} cannot be used together.")
    if options.task != MORPH:
        if options.photo is None:
            raise SettingsError("No picture is given; give its file as the first argument.")
        given = [name for name in ("classes", "classifier", "reach", "views") if getattr(options, name) is not None]
        if given:
            option = given[0].replace("classes", "class")
            raise SettingsError(f"--{option} is only for --task morph; leave it out, or choose that task.")
        return
    if not options.classes:
        raise SettingsError('A morph needs a class; give one, such as --class "bullfrog".')
    names = [name for name, _ in options.classes]
    if len(set(names)) < len(names):
        raise SettingsError("A class is given twice; give each class once, with its weight.")
    given = [option for option, _ in (options.operator or {}).values()]
    of_others = ("mask", "noise", *(() if options.photo else ("crop",)))
    given += [f"--{dashed(name)}" for name in of_others if getattr(options, name) is not None]
    given += [f"--{dashed(name)}" for name in ("damaged", "measurement_seed") if getattr(options, name)]
    if given:
        raise SettingsError(
            f"A morph{'' if options.photo else ' of a generated face'} has no {given[0]}; leave it out."
        )
