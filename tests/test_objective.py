"""Each term of the objective against its formula; LPIPS with a random backbone."""

import math
from dataclasses import replace

import pytest
import torch

from ilo import LossWeights, Problem, build
from ilo.objective import MeasurementObjective, dead_zone, geodesic
from ilo.perceptual.classifier_features import ClassifierFeatures
from ilo.perceptual.find import find_perceptual
from ilo.perceptual.lpips_vgg import LpipsVgg
from ilo.weights import cache, registry


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file like torchvision's VGG-16, with random weights."""
    from torchvision.models import vgg16

    torch.manual_seed(1)
    weights = {f"features.{k}": v for k, v in vgg16(weights=None).features.state_dict().items()}
    path = tmp_path_factory.mktemp("cache") / "vgg16-397923af.pth"
    torch.save(weights, path)
    return path


def test_geodesic_by_hand():
    z = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])  # angles 90°, 180°, 90°, each pair counted twice
    expected = 2 * 2 * ((math.pi / 2) ** 2 * 2 + math.pi**2) / 9 / 8
    assert geodesic(z)[0] == pytest.approx(expected, rel=1e-6)
    assert not geodesic(z[:, :1]).any()


def test_geodesic_is_per_sample_and_has_gradients_where_latents_coincide():
    z = torch.randn(3, 5, 8)
    torch.testing.assert_close(geodesic(z)[1:2], geodesic(z[1:2]))
    same = torch.ones(1, 4, 8, requires_grad=True)
    geodesic(same).sum().backward()
    assert torch.isfinite(same.grad).all()


def test_dead_zone_ignores_small_errors():
    assert dead_zone(torch.tensor([[0.05, -0.1, 0.3, -0.2]]))[0] == pytest.approx((0.2 + 0.1) / 4, rel=1e-5)


def test_objective_is_the_weighted_sum():
    x, z = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 4, 8)
    problem = Problem.damage(torch.rand(2, 3, 16, 16) * 2 - 1, build("super-resolve", 16, factor=4))
    weights = LossWeights(mse=2.0, perceptual=0.0, geodesic=0.5, dead_zone=3.0)
    total, mse, distance, spread, dead, _ = MeasurementObjective(problem, weights, None)(x, z)
    residual = problem.operator(x) - problem.y
    torch.testing.assert_close(mse, residual.square().mean((1, 2, 3)))
    torch.testing.assert_close(total, 2 * mse + 0.5 * spread + 3 * dead)
    assert not distance.any()


def test_random_errors_give_mean_squared_error_per_pixel():
    """N makes the data terms of different operators comparable."""
    truth, z = torch.zeros(4, 3, 32, 32), torch.randn(4, 2, 8)
    wrong = 0.1 * torch.randn(4, 3, 32, 32)
    tasks = [("identity", {}), ("random-inpaint", {"fraction": 0.3}), ("compressed-sensing", {"fraction": 0.3})]
    for task, settings in tasks:
        problem = Problem.damage(truth, build(task, 32, **settings))
        mse = MeasurementObjective(problem, LossWeights(), None)(wrong, z)[1].mean()
        assert float(mse) == pytest.approx(0.01, rel=0.15), task


def test_lpips_through_its_package(backbone):
    distance = LpipsVgg(backbone)
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    assert distance(a, a).abs().max() < 1e-6
    assert (distance(a, b) > 0).all()
    a.requires_grad_()
    distance(a, b).sum().backward()
    assert a.grad.abs().max() > 0


def test_lpips_enters_the_objective(backbone):
    x, z = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8)
    problem = Problem.damage(torch.rand(1, 3, 64, 64) * 2 - 1, build("super-resolve", 64, factor=4))
    on = MeasurementObjective(problem, LossWeights(), LpipsVgg(backbone))(x, z)
    off = MeasurementObjective(problem, LossWeights(perceptual=0.0), LpipsVgg(backbone))(x, z)
    assert on[2] > 0
    torch.testing.assert_close(on[0], off[0] + on[2])
    scarce = Problem.damage(torch.zeros(1, 3, 64, 64), build("random-inpaint", 64, fraction=0.1))
    # Below 20 % observed: MSE only.
    assert (
        MeasurementObjective(scarce, LossWeights(), LpipsVgg(backbone))(x, z)[2] == 0
    )  # below 20 % observed: MSE only


def test_lpips_is_what_its_package_computes(backbone):
    distance = LpipsVgg(backbone)
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(distance(a, b), distance._net(a, b).flatten())


def test_features_enter_the_objective_and_see_nothing_of_a_hole(guide):
    x, z = torch.rand(2, 3, 64, 64) * 2 - 1, torch.randn(2, 4, 8)
    mask = torch.ones(64, 64)
    mask[20:40, 10:50] = 0
    problem = Problem.damage(torch.rand(2, 3, 64, 64) * 2 - 1, build("inpaint", 64, mask=mask))
    distance = ClassifierFeatures(guide, scale=0.5)
    objective = MeasurementObjective(problem, LossWeights(geodesic=0.0), distance)
    x.requires_grad_()
    total, mse, features, *_ = objective(x, z)
    assert (features > 0).all()
    torch.testing.assert_close(total, mse + features)
    torch.testing.assert_close(features, distance(problem.operator(x), problem.y))
    (gradient,) = torch.autograd.grad(objective(x, z)[2].sum(), x)
    assert not gradient[:, :, mask == 0].any()
    assert gradient[:, :, mask == 1].any()
    assert ClassifierFeatures(guide)(x.detach(), problem.y)[0] == pytest.approx(
        2 * float(distance(x.detach(), problem.y)[0]), rel=1e-5
    )
    scarce = Problem.damage(torch.zeros(2, 3, 64, 64), build("random-inpaint", 64, fraction=0.1))
    assert not MeasurementObjective(scarce, LossWeights(), distance)(x, z)[2].any()


def test_backbone_is_found_where_torchvision_or_the_studio_keeps_it(backbone, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("ILO_CACHE", str(tmp_path / "cache"))
    assert find_perceptual().name == "robust64"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / backbone.name).symlink_to(backbone)
    assert find_perceptual().name == "lpips-vgg"
    assert find_perceptual(name="robust64").name == "robust64"  # the name in a recipe
    assert find_perceptual(name="lpips-vgg").name == "lpips-vgg"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "empty"))
    monkeypatch.setenv("ILO_CACHE", str(backbone.parent))
    with pytest.raises(ValueError, match=r"not the expected file.*models remove lpips-vgg"):
        find_perceptual()  # random weights do not have the registered hash
    entry = replace(registry.BY_ID["lpips-vgg"], sha256=cache.sha256(backbone)[:8])
    monkeypatch.setitem(registry.BY_ID, "lpips-vgg", entry)
    assert find_perceptual().name == "lpips-vgg"


def test_broken_backbone_says_so(tmp_path):
    path = tmp_path / "vgg16-broken.pth"
    path.write_bytes(b"not a state dict")
    with pytest.raises(ValueError, match=r"vgg16-broken\.pth: not the weights of VGG-16"):
        LpipsVgg(path)


class Counting(ClassifierFeatures):
    """Counts how often features are computed."""

    calls = 0

    def features(self, images):
        self.calls += 1
        return super().features(images)


def test_features_of_a_measurement_are_computed_once(guide):
    perceptual = Counting(guide)
    perceptual.fills_holes = True  # as LPIPS does: only a hole's filling changes with the picture
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    objective = MeasurementObjective(Problem.damage(x, build("super-resolve", 64, factor=4)), LossWeights(), perceptual)
    for _ in range(3):
        objective(x, torch.zeros(1, 0, 1))
    assert perceptual.calls == 1 + 3


def test_stochastic_noise_enters_the_features_alone(guide):
    """Also where a mask comes last: the noise is added before the hole is filled."""
    x, z = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 0, 1)
    chain = [{"name": "denoise", "sigma": 50}, {"name": "inpaint"}]
    mask = torch.ones(64, 64)
    mask[20:40] = 0
    for operator in (build("denoise", 64, sigma=50), build("compose", 64, operators=chain, mask=mask)):
        problem = Problem.damage(x, operator)
        plain = MeasurementObjective(problem, LossWeights(perceptual=0), None)
        assert plain.perturbed(x, z, [torch.Generator().manual_seed(3)]) is None
        perceptual = ClassifierFeatures(guide)
        perceptual.fills_holes = True
        objective = MeasurementObjective(problem, LossWeights(), perceptual)
        first, second = (objective.perturbed(x, z, [torch.Generator().manual_seed(n)]) for n in (3, 4))
        assert first != second
        assert objective(x, z)[2] not in (first, second)
        off = MeasurementObjective(problem, LossWeights(), perceptual, sna=False)
        assert off.perturbed(x, z, [torch.Generator().manual_seed(3)]) is None
