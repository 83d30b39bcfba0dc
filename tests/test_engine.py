"""Number formats and the description that goes into the recipe."""

import json

import torch

from ilo import engine


def test_float32_is_the_generator_itself(generator):
    assert engine.prepare(generator, "float32") is generator


def test_bfloat16_is_a_copy_close_to_it(generator):
    half = engine.prepare(generator, "bfloat16")
    z = torch.randn(2, 256)
    exact, rough = generator(z), half(z)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.2
    torch.testing.assert_close(generator(z), exact)  # the original is untouched


def test_description_is_plain_json_and_names_what_matters():
    about = engine.description("cpu")
    assert json.loads(json.dumps(about)) == about
    assert {"engine", "device", "threads", "torch", "python"} <= set(about)
