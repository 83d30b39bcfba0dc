"""A page with several models: each has an address of its own, and its runs go to its own network."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from ilo.priors import load
from ilo.ui import examples, page
from ilo.ui.parts import painter
from ilo.ui.runs import machine
from ilo.ui.runs.line import Runs
from ilo.ui.studio.handlers import Studio
from ilo.ui.visitors.visitors import Visitors
from tests import published
from tests.machines import Plain


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A generator of 32 px with random weights."""
    path = tmp_path_factory.mktemp("small") / "small faces.pkl"
    return load.load(str(published.official(path, published.generator(32))))


def options(built, where, **wanted):
    """The properties of the components of one page of `built` that have these properties."""
    config = built.get_config_file()
    ids = config["page"][where]["components"]
    of_page = [each["props"] for each in config["components"] if each["id"] in ids]
    return [props for props in of_page if all(props.get(name) == value for name, value in wanted.items())]


def test_each_model_has_a_page_with_its_own_controls(model, small):
    built = page.build([model, small])
    assert set(built.get_config_file()["page"]) == {"", "model-small-faces"}
    for where, layers, chosen in (("", 5, "faces64 (64×64 px)"), ("model-small-faces", 4, "small faces (32×32 px)")):
        (rounds,) = options(built, where, label="Rounds")
        assert rounds["maximum"] == layers
        (header,) = options(built, where, elem_id="header")
        assert f"selected>{chosen}<" in header["value"]
        assert header["value"].count("<option") == 2
    assert "window.openModel" in page.launch_options(Visitors(), [model, small])["head"]


def test_a_page_with_one_model_has_no_list_of_models(model):
    built = page.build([model])
    (header,) = options(built, "", elem_id="header")
    assert "<select" not in header["value"]
    assert "Model: faces64 (64×64 px), running on" in header["value"]
    assert "openModel" not in page.launch_options(Visitors(), [model])["head"]


def test_addresses_of_models_differ(model):
    named = [replace(model, id=name) for name in ("first", "a b", "a-b", "é/../x", "config")]
    assert page.paths(named) == ["", "model-a-b", "model-a-b-2", "model--..-x", "model-config"]


def test_a_run_goes_to_the_model_of_its_page(model, small, values, tmp_path):
    runs = Runs([partial(Plain, model, small)])
    studio = Studio(small, examples.load(), runs, tmp_path)
    try:
        drawn = painter.first_value(small, values["painter"]["picture"])
        *_, last = studio.run({**values, "painter": drawn, "rounds": 1, "0.steps": 3}, "a")
        assert "Done" in last[3]
        recorder = studio._finished["a"].recorder
        assert (recorder.recipe.model, recorder.result.image.shape[-1]) == ("small faces", 32)
        assert "model=small+faces" in last[3]  # the link
    finally:
        runs.close()


def test_a_copy_for_another_device_leaves_the_model_where_it_is(model):
    copied = machine._on(model, torch.device("meta"))
    assert copied.device.type == copied.latents.mean.device.type == "meta"
    assert model.device.type == model.latents.mean.device.type == "cpu"
    assert machine._on(model, torch.device("cpu")) is model
