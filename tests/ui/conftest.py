"""A Studio tab without a browser, and the values of its controls."""

from __future__ import annotations

import gradio as gr
import pytest

from ilo.methods import preset
from ilo.ui import examples
from ilo.ui.parts import controls, painter, tasks
from ilo.ui.studio.handlers import Studio
from tests.machines import plain_runs


@pytest.fixture(scope="module")
def studio(model, tmp_path_factory):
    made = Studio(model, examples.load(), plain_runs(model), tmp_path_factory.mktemp("cache"))
    yield made
    made.runs.close()


@pytest.fixture(scope="module")
def values(model):
    """Initial values of the page's controls."""
    first = examples.load()[0]
    fields = controls.fields_of(preset(), model.layers)
    with gr.Blocks(analytics_enabled=False):
        own = {name: component.value for name, component in tasks.controls(model.resolution).items()}
    return {
        "source": None, "painter": painter.first_value(model, first.name, first.crop), "truth": "here",
        "task": "inpaint", "method": "ilo", "preset": "Quick", "seed": 0, **own, **fields,
    }  # fmt: skip
