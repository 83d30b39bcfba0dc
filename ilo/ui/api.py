"""The functions that programs call: `tasks`, `models`, `solve` and `morph`, over HTTP or as MCP tools.

Their runs wait in the same queue as those of the page and have the same limits. Gradio makes the schema from the type
hints, which must not be strings (so there is no `from __future__ import annotations` here), and the descriptions from
the docstrings: a line for each argument.
"""

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_function_description

from ilo.classifiers.classifier import Classifier
from ilo.methods import METHODS, MORPH_METHODS, MORPH_PRESETS, PRESETS
from ilo.operators.setting import REQUIRED, Setting
from ilo.photos.masks import PRESET_MASKS
from ilo.priors.load import Model
from ilo.records.saving import result_png
from ilo.records.scores import scores
from ilo.settings import SettingsError
from ilo.ui import text
from ilo.ui.bench import sentence
from ilo.ui.examples import Example
from ilo.ui.orders import Orders
from ilo.ui.parts.tasks import offered
from ilo.ui.runs.line import Runs
from ilo.ui.runs.order import Order, Run
from ilo.ui.sent import Sent
from ilo.ui.visitors import temporary
from ilo.ui.visitors.visitors import Visitors

READERS = 2  # pictures that are read at the same time: a large one takes 120 MB
POLL_SECONDS = 0.5  # how often a run looks whether its caller is still there
Answer = tuple[gr.FileData, dict, float, dict]


class Api:
    """The functions of one page, for all programs that call them.

    Args:
        models: the page's models; the first one is the default.
        guides: name → classifier.
        examples: the page's pictures, which a caller may name.
        runs, visitors: the queue of all runs, and the sessions of the page.
        cache: the folder of uploads and downloads.
    """

    def __init__(
        self,
        models: Sequence[Model],
        guides: Mapping[str, Classifier],
        examples: Sequence[Example],
        runs: Runs,
        cache: Path,
        visitors: Visitors,
    ):
        self._models = {model.id: model for model in models}
        self._guides, self._examples, self._runs, self._cache = guides, examples, runs, cache
        self._visitors, self._limits = visitors, visitors.limits
        self._orders = Orders(self._models, guides, Sent(examples, cache, visitors.limits))
        self._reading = threading.BoundedSemaphore(READERS)

    def connect(self, page: gr.Blocks) -> None:
        """Make the functions callable; call it inside the page, which must be the current one."""
        functions: list[Callable[..., Any]] = [self.tasks, self.models, self.solve]
        if self._guides:
            functions.append(self.morph)
        for each in functions:
            made = gr.api(each, api_name=each.__name__, concurrency_limit=None)  # `Runs` limits the runs
            _, lines, _ = get_function_description(each)
            lines.pop("request", None)
            entries: list[Any] = list(page.fns[made["id"]].inputs)
            for entry, (name, line) in zip(entries, lines.items(), strict=True):
                # Without these the page's API view would call the arguments "1st", "2nd" and so on.
                entry.label = name
                entry._api_info["additional_description"] = line

    def tasks(self, model: str = "") -> list[dict]:
        """List the tasks (the ways a picture can be damaged), each with its formula and its settings.

        Args:
            model: Name of a model from `models`; empty for the default one. Suggested values depend on its resolution.

        Returns:
            For each task its name, title, help and formula; whether it needs a mask; whether it accepts a picture that is damaged already; and its settings with label, help, kind, unit, range or choices, and suggested value.
        """  # noqa: E501
        with _in_one_sentence():
            side = self._orders.model(model).resolution
            return [
                {
                    "task": name,
                    "title": kind.title,
                    "help": kind.help,
                    "formula": kind.formula,
                    "mask": "none" if kind.mask_setting() is None else "needed",
                    "takes_damaged_pictures": kind.upload != "no",
                    "settings": [_described(each, side) for each in kind.declared if each.kind != "mask"],
                }
                for name, kind in offered().items()
            ]

    def models(self) -> dict:
        """List the generative models of this page, and the values that `solve` and `morph` accept.

        Returns:
            The models with resolution, layers and device; example pictures, preset masks, methods and presets; the classes that a morph can follow, by classifier; and the limits of this page.
        """  # noqa: E501
        devices = text.together([facts.name for facts in self._runs.facts])
        limits = self._limits
        return {
            "models": [
                {"id": id_, "resolution": model.resolution, "layers": model.layers, "device": devices}
                for id_, model in self._models.items()
            ],
            "examples": [example.name for example in self._examples],
            "masks": list(PRESET_MASKS),
            "solve": {"methods": list(METHODS), "presets": list(PRESETS)},
            "morph": {"methods": list(MORPH_METHODS), "presets": list(MORPH_PRESETS)},
            "classes": {name: sorted(set(guide.names)) for name, guide in self._guides.items()},
            "limits": {
                "steps_of_a_run": limits.steps or None,
                "runs_waiting": limits.waiting,
                "bytes_of_a_request": limits.request_bytes,
                "bytes_of_an_upload": limits.upload_bytes,
            },
        }

    def solve(
        self,
        request: gr.Request,
        picture: dict | str,
        task: str,
        settings: dict | None = None,
        mask: dict | str | None = None,
        method: str = "ilo",
        preset: str = "Quick",
        seed: int = 0,
        damaged_here: bool = True,
        measurement_seed: int = 0,
        face: int = 0,
        model: str = "",
    ) -> Answer:
        """Solve an inverse problem: find a picture that, after the damage of the task, matches the given one.

        Args:
            picture: An uploaded file ({"path": …, "meta": {"_type": "gradio.FileData"}}), a file as base64 or data URL, or the name of an example from `models`. URLs are not opened.
            task: Name of a task from `tasks`, such as super-resolve.
            settings: Settings of the task, such as {"factor": 4}; omitted ones have their suggested values.
            mask: For tasks that need one: the name of a preset mask from `models`, or a picture in which white is to be filled in.
            method: ilo (layer by layer), csgm or pulse (latent code only).
            preset: Quick (150 steps) or Paper (1,200 steps).
            seed: Random seed of the search, from 0 to 2147483647.
            damaged_here: True to damage the picture here, so that the result can be scored; False if the picture is damaged already.
            measurement_seed: Random seed of the noise, if the task adds any.
            face: 0 uses the central square of the picture; 1 cuts out and aligns the largest face, 2 the second largest, and so on.
            model: Name of a model from `models`; empty for the default one.

        Returns:
            The found picture (PNG); its scores (fit to the measurement, and where the truth is known mse, psnr in dB and ssim); the seconds it took; and the recipe, which repeats the run.
        """  # noqa: E501
        with _in_one_sentence():
            self._runs.check_line()
            with self._reading:
                order = self._orders.problem(
                    picture, task, settings, mask, method, preset, seed, damaged_here, measurement_seed, face, model
                )
            return self._answer(self._made(order, request))

    def morph(
        self,
        request: gr.Request,
        target: str,
        picture: dict | str | None = None,
        seed: int = 0,
        second: str = "",
        share: float = 0.3,
        method: str = "ilo",
        preset: str = "Quick",
        reach: float = 1.0,
        classifier: str = "",
        face: int = 0,
        model: str = "",
    ) -> Answer:
        """Change a face until a classifier sees a class of things in it, such as a goldfish.

        Args:
            target: Name of a class from `models`.
            picture: The face to start from, as in `solve`; without one, the generator draws a face with the seed.
            seed: Random seed of the face and of the search, from 0 to 2147483647.
            second: Name of a second class to mix in; empty for none.
            share: Share of the second class, between 0 and 1.
            method: ilo (layer by layer), or pixels (without a generator).
            preset: Quick (150 steps) or Paper (1,200 steps).
            reach: Factor on how far every layer may move, from 0 to 10.
            classifier: Name of a classifier from `models`; empty for the first one.
            face: As in `solve`.
            model: Name of a model from `models`; empty for the default one.

        Returns:
            The changed face (PNG); what the classifier sees in it; the seconds it took; and the recipe, which repeats the run.
        """  # noqa: E501
        with _in_one_sentence():
            self._runs.check_line()
            with self._reading:
                order = self._orders.morph(
                    target, picture, seed, second, share, method, preset, reach, classifier, face, model
                )
            return self._answer(self._made(order, request))

    # Making a run.

    def _made(self, order: Order, request: gr.Request) -> Run:
        """Wait for a run to end. It stops when its caller has gone, or when others wait for too long."""
        session = request.session_hash or secrets.token_hex(8)
        self._visitors.asked(session)
        # All callers through MCP share one session of Gradio's own.
        shared = dict(request.headers).get("x-gradio-user") == "mcp"
        run = self._runs.start(f"{session}-{secrets.token_hex(8)}" if shared else session, order)
        if run is None:
            raise SettingsError(text.API_BUSY)
        try:
            seen = -1
            while run.live:
                seen = run.wait(seen, POLL_SECONDS)
                if self._visitors.unheard(session):
                    run.stop()
        finally:
            run.stop()
            self._runs.forget(run)
        return run

    def _answer(self, run: Run) -> Answer:
        recorder = run.recorder
        if run.status == "failed":
            raise SettingsError(run.error or text.FAILED)
        if recorder is None or recorder.result is None:
            raise SettingsError(text.STOPPED_EARLY)
        result, recipe = recorder.result, recorder.final_recipe()
        path = self._cache / temporary.DOWNLOADS / secrets.token_hex(16) / "result.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(result_png(result))
        temporary.delete_later(path, self._limits.left_seconds, self._limits)
        picture = gr.FileData(path=str(path), mime_type="image/png", orig_name=path.name, size=path.stat().st_size)
        seconds = round(run.ended - run.started, 2)
        return picture, scores(run.order.problem, result), seconds, json.loads(recipe.to_json())


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Turn every error into one sentence for the caller; those that are not the caller's are logged."""
    try:
        yield
    except Exception as error:
        raise gr.Error(sentence(error), print_exception=False) from None


def _described(setting: Setting, side: int) -> dict[str, Any]:
    """A setting as JSON, for a model whose pictures have `side` pixels per side."""
    found: dict[str, Any] = {
        "name": setting.name,
        "label": setting.label,
        "help": setting.help,
        "kind": setting.kind,
        "unit": "fraction" if setting.unit == "%" else setting.unit,
        "suggested": None if setting.suggest(side) is REQUIRED else setting.suggest(side),
    }
    if setting.kind == "choice":
        found["choices"] = dict(setting.choices)
    else:
        found["low"] = setting.low
        found["high"] = setting.high if setting.fits is None else setting.fits(side)
    if setting.when is not None:
        found["used_if"] = dict([setting.when])
    return found
