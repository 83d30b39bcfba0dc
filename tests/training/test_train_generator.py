"""Training a generator: discriminator, augmentation, and resuming."""

import copy
import importlib.util
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open

from ilo.classifiers import classifier
from ilo.priors import load as models
from training import augment, evaluate_generator, train_generator
from training.adversarial import EYE, Plan, Training, batches, gradient_penalty
from training.augment import Adaption
from training.discriminator import Discriminator

SHARED = Path(__file__).parents[3] / "shared" / "models"
# With this target p grows at every change, so the augmentation is active after four steps.
TINY = Plan(
    (8, 8, 8), 8, batch=4, warmup=8, r1_every=2, r1_batch=2, path=1.0, mixing=0.9, ada_target=-2.0, ada_images=64
)


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (12, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def training(tmp_path):
    return Training(TINY, tmp_path / "checkpoint.pt")


def steps(training, pictures, count):
    order = batches(len(pictures), training.plan, training.step)
    return [training.update(pictures[next(order)]) for _ in range(count)]


def test_the_discriminator_is_the_one_of_the_stored_state():
    state, source = SHARED / "faces64-train-state.safetensors", SHARED / "faces64_discriminator.py"
    if not state.exists() or not source.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{state.name} is not beside the checkout")
        pytest.skip("the training state is not part of the project")
    spec = importlib.util.spec_from_file_location("reference", source)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    theirs, ours = reference.Discriminator(), Discriminator(Plan().sizes)
    with safe_open(state, "pt") as file:
        weights = {key.removeprefix("d."): file.get_tensor(key) for key in file.keys() if key.startswith("d.")}  # noqa: SIM118
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    for count in (8, 3):  # two groups of four; one of three
        images = torch.rand(count, 3, 64, 64) * 2 - 1
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-3, atol=1e-3)


def test_the_shape_follows_the_channels():
    discriminator = Discriminator({4: 8, 8: 8, 16: 8, 32: 4, 64: 4, 128: 4})
    assert discriminator(torch.zeros(4, 3, 128, 128)).shape == (4, 1)
    assert Plan(channels=(8, 8, 8, 4, 4, 4)).config.img_resolution == 128


@pytest.mark.parametrize(("features", "moments"), [(0.0, 0.0), (1.0, 0.5), (0.0, 0.5)])
def test_a_resumed_training_equals_an_uninterrupted_one(features, moments, pictures, tmp_path):
    plan = replace(TINY, features=features, moments=moments)
    training = Training(plan, tmp_path / "checkpoint.pt")
    whole = steps(training, pictures, 7)
    first = Training(plan, tmp_path / "other.pt")
    parts = steps(first, pictures, 5)  # between two changes of p, in the middle of an epoch
    first.save()
    second = Training(plan, tmp_path / "other.pt")
    parts += steps(second, pictures, 2)
    assert [{k: v for k, v in step.items() if v == v} for step in whole] == [  # not the penalties that are NaN
        {k: v for k, v in step.items() if v == v} for step in parts
    ]
    assert second.adaption == training.adaption
    assert second.adaption.p > 0
    assert ("judge" in training.networks, "transport" in training.networks) == (bool(features), bool(moments))
    for name, network in training.networks.items():
        ours, theirs = second.networks[name].state_dict(), network.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not (tmp_path / "other.partial").exists()


def test_a_judge_of_features_can_join_later(training, pictures, tmp_path):
    steps(training, pictures, 2)
    training.save()
    joined = Training(replace(TINY, features=1.0), training.path)
    assert joined.step == 2
    before = copy.deepcopy(joined.judge.state_dict())
    steps(joined, pictures, 1)
    assert all(not torch.equal(before[key], value) for key, value in joined.judge.state_dict().items())


@pytest.mark.parametrize("features", [0.0, 0.5])
def test_each_network_gets_the_gradient_of_its_own_loss(features, tmp_path, pictures):
    training = Training(replace(TINY, path=0.0, features=features), tmp_path / "checkpoint.pt")
    training.step, training.adaption.p = 1, 0.3  # a step without the penalty
    before = copy.deepcopy(training)
    training.update(pictures[:4])

    rng = torch.Generator().manual_seed(TINY.seed * 1_000_003 + 1)
    real = pictures[:4].permute(0, 3, 1, 2) / 127.5 - 1
    mirrored = torch.rand(4, 1, 1, 1, generator=rng) < 0.5
    real = augment.augment(torch.where(mirrored, real.flip(3), real), 0.3, rng)
    images = before.draw(before.latents(4, rng), rng)
    fake = augment.augment(images, 0.3, rng)
    critics = {"discriminator": (before.discriminator, 1.0)}
    if features:
        eye = classifier.load(str(EYE))
        critics["judge"] = (lambda x: before.judge(*eye.features(x)[-3:]), features)
    for name, (d, weight) in critics.items():
        loss = weight * (F.softplus(d(fake.detach())).mean() + F.softplus(-d(real)).mean())
        compare(loss, before.networks[name], training.networks[name])
    loss = sum(weight * F.softplus(-d(fake)).mean() for d, weight in critics.values())
    compare(loss, before.generator, training.generator)


def compare(loss, network, updated):
    """Compare the gradient of a loss in a network with the one of its updated copy."""
    wanted = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    for gradient, parameter in zip(wanted, updated.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_the_penalty_is_the_gradients_square_norm():
    weight = torch.randn(3 * 4 * 4, requires_grad=True)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight, torch.randn(5, 3, 4, 4))
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(penalty, weight.square().sum())
    torch.testing.assert_close(gradient, 2 * weight)


def test_the_penalty_is_lazy_and_reaches_the_weights(training, pictures):
    values = [step["r1"] for step in steps(training, pictures, 4)]
    assert [value == value for value in values] == [True, False, True, False]
    penalty = gradient_penalty(training.discriminator, torch.randn(4, 3, 16, 16))
    gradients = torch.autograd.grad(penalty, list(training.discriminator.parameters()), allow_unused=True)
    assert sum(g is not None and bool((g != 0).any()) for g in gradients) > len(gradients) // 2


def test_the_rate_grows_stays_and_falls(training):
    training.images, training.anneal = 0, (100, 200)
    rates = []
    for training.images in (0, 4, 50, 100, 150, 200):
        rates.append(training.rate() / TINY.lr)
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.5, 0])
    assert training.ended


def test_every_epoch_shows_every_picture_once():
    order = batches(12, TINY, 0)
    seen = [next(order) for _ in range(6)]
    assert sorted(torch.cat(seen[:3]).tolist()) == sorted(torch.cat(seen[3:]).tolist()) == list(range(12))
    assert torch.equal(next(batches(12, TINY, 4)), seen[4])


def test_told_to_end_it_saves(training, pictures, tmp_path, monkeypatch):
    def update(batch, update=training.update):
        os.kill(os.getpid(), signal.SIGTERM)
        return update(batch)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    reported = []

    def report(training, work):
        reported.append(training.step)
        train_generator.draw_grid(training, work)

    monkeypatch.setattr(training, "update", update)
    try:
        train_generator.run(training, pictures, tmp_path, log_every=1, reports=[(1000, report)])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert Training(TINY, training.path).step == 1
    assert reported == [0]  # no measurement after an interruption, because it takes time
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2
    assert Image.open(tmp_path / "grid-000000.png").size == (8 * 16, 8 * 16)


def test_the_distance_is_the_one_of_the_evaluation(tmp_path, monkeypatch):
    trained = torch.randn(50, 384)
    monkeypatch.setattr(train_generator, "training_faces", lambda data, work, network: (None, trained))
    monkeypatch.setattr(train_generator, "SAMPLES", 60)
    training = Training(replace(TINY, channels=(8,) * 5), tmp_path / "checkpoint.pt")
    measure = train_generator.Distance(tmp_path, tmp_path, "cpu")
    measure(training, tmp_path)
    training.images = 40
    measure(training, tmp_path)
    pictures = evaluate_generator.sample(training.average, 60)
    wanted = evaluate_generator.frechet_distance(
        trained, evaluate_generator.features(classifier.load("robust64"), pictures)
    )
    header, first, second = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "images,frechet"
    assert first == f"0,{wanted:.4f}"
    assert second == f"40,{wanted:.4f}"


def test_without_probability_nothing_is_changed():
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    rng = torch.Generator().manual_seed(0)
    assert augment.augment(images, 0.0, rng) is images
    torch.testing.assert_close(augment.move(images, augment.geometry(4, 16, 0.0, rng)), images, atol=1e-5, rtol=0)
    matrix, offset = augment.colours(4, 0.0, rng)
    torch.testing.assert_close(matrix, torch.eye(3).expand(4, 3, 3), atol=1e-6, rtol=0)
    assert not offset.any()


def test_a_change_is_differentiable_and_within_reason():
    images = (torch.rand(64, 3, 16, 16) * 2 - 1).requires_grad_(True)
    changed = augment.augment(images, 0.9, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.abs().mean() < 2
    assert (changed - images).abs().flatten(1).mean(1).gt(0.05).float().mean() > 0.9
    (gradient,) = torch.autograd.grad(changed.square().sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.7


def test_colours_turn_about_grey():
    matrix, offset = augment.colours(64, 0.9, torch.Generator().manual_seed(0))
    changed = matrix @ torch.full((64, 3, 1), 0.4) + offset
    torch.testing.assert_close(changed, changed.mean(1, keepdim=True).expand(-1, 3, 1), atol=1e-5, rtol=0)


def test_the_probability_follows_the_sign():
    adaption = Adaption(target=0.6, images=400, every=2)
    for _ in range(10):
        adaption.observe(0.9, 4)
    assert adaption.p == pytest.approx(0.1)
    for _ in range(30):
        adaption.observe(0.1, 4)
    assert adaption.p == 0


def test_what_is_exported_is_loaded(training, pictures, tmp_path, root):
    steps(training, pictures, 2)
    path = tmp_path / "faces16.safetensors"
    train_generator.export(training, path, "a test")
    model = models.load(str(path))
    z = torch.randn(2, 8)
    torch.testing.assert_close(model.generator(z), training.average(z), rtol=0.02, atol=0.02)
    assert model.alignment == models.load("faces64").alignment
    assert model.about["training"]["kimg"] == round(training.images / 1000, 1)
    with safe_open(path, "pt") as ours, safe_open(root / "assets" / "faces64.safetensors", "pt") as theirs:
        assert ours.metadata().keys() == theirs.metadata().keys()
        assert ours.metadata()["licence"] == theirs.metadata()["licence"]
        assert json.loads(ours.metadata()["config"]).keys() == json.loads(theirs.metadata()["config"]).keys()
        assert ours.get_tensor("synthesis.b4.const").dtype == theirs.get_tensor("synthesis.b4.const").dtype
        assert ours.get_tensor("mapping.w_avg").abs().sum() > 0
