"""Growing a generator: what is kept, how the new layers begin, and that a training can continue from them."""

import io
import signal
import sys
import tarfile
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from ilo.priors.load import load
from ilo.priors.stylegan2 import ops
from ilo.priors.stylegan2.network import Generator
from training import grow as growing
from training import train_generator
from training.adversarial import Plan, Training
from training.discriminator import Discriminator
from training.grow import Growth, grow
from training.state import State, read_state, write_state

TINY = Plan((8, 8), 8, batch=4, warmup=8, r1_every=2, r1_batch=2)
GROWTH = Growth(channels=6, steps=200, batch=8)
UNFITTED = replace(GROWTH, steps=0)
FITTED = 0.2  # bound on the relative error of a fit in these tests; without a fit it is above 1


def faces(side, count=32):
    """Smooth random pictures uint8 [count, side, side, 3], as photographs are smooth."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    smooth = F.interpolate(coarse, size=side, mode="bilinear", align_corners=False)
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


@pytest.fixture
def state(tmp_path):
    """Networks for pictures of 8 pixels, after a few steps of training."""
    training = Training(TINY, tmp_path / "checkpoint.pt")
    for pictures in faces(8).split(4):
        training.update(pictures)
    training.save()
    return read_state(training.path)


@torch.no_grad()
def drawn(config, tensors):
    """Four pictures of a generator."""
    generator = Generator(config)
    generator.load_state_dict(tensors)
    return generator.freeze()(torch.randn(4, config.z_dim, generator=torch.Generator().manual_seed(1)))


def rms(x):
    return x.square().mean().sqrt().item()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def kept(made, old):
    """Whether a grown network has all of the old one's tensors, to the bit, and more."""
    return made.keys() > old.keys() and same({name: made[name] for name in old}, old)


def test_a_grown_generator_draws_the_old_faces():
    old = load("faces64").generator
    tensors, config = old.state_dict(), old.config
    state = State(tensors, tensors, Discriminator(config.channels).state_dict())
    made, _ = grow(state, faces(128, 2), Growth(steps=0))
    assert made.config == growing.grown(config, 24)
    halved = F.avg_pool2d(drawn(made.config, made.average), 2)  # the mean of 2 × 2 pixels
    assert rms(halved - drawn(config, tensors)) < 0.05


def test_the_new_block_begins_faint(state):
    made, _ = grow(state, faces(16), UNFITTED)
    for new, old in ((made.generator, state.generator), (made.average, state.average)):
        enlarged = ops.upsample(drawn(state.config, old), ops.binomial_filter([1, 3, 3, 1]))
        assert 0 < rms(drawn(made.config, new) - enlarged) < 0.1
    weight = made.generator["synthesis.b16.torgb.weight"]
    whole, _ = grow(state, faces(16), replace(UNFITTED, rgb=1))
    torch.testing.assert_close(weight, whole.generator["synthesis.b16.torgb.weight"] / 20)


def test_every_weight_is_kept_but_the_discriminators_first_layer(state):
    made, _ = grow(state, faces(16), GROWTH)
    assert kept(made.generator, state.generator)
    assert kept(made.average, state.average)
    beyond = {name: x for name, x in state.discriminator.items() if not name.startswith("rgb.")}
    assert len(beyond) == len(state.discriminator) - 2
    assert kept(made.discriminator, beyond)
    assert {name.split(".")[0] for name in made.discriminator.keys() - beyond.keys()} == {"rgb", "a16", "b16", "s16"}
    assert made.config.channels == {4: 8, 8: 8, 16: 6}
    assert made.images == state.images == 32


def test_the_discriminator_begins_with_its_old_judgement(state):
    pictures = faces(16)
    logits = {}
    for name, growth in (("fitted", GROWTH), ("unfitted", UNFITTED)):
        made, error = grow(state, pictures, growth)
        assert (error < FITTED) == (name == "fitted")
        logits[name] = judged(made, pictures)
    old = judged(state, F.avg_pool2d(pictures.permute(0, 3, 1, 2).float(), 2).permute(0, 2, 3, 1))
    assert rms(logits["fitted"] - old) < 0.5 * rms(logits["unfitted"] - old)


@torch.no_grad()
def judged(state, pictures):
    discriminator = Discriminator(state.config.channels)
    discriminator.load_state_dict(state.discriminator)
    return discriminator(pictures.permute(0, 3, 1, 2) / 127.5 - 1)


def test_a_report_follows_the_fit(state):
    errors = {}
    grow(state, faces(16), GROWTH, errors.__setitem__)
    assert list(errors) == list(range(GROWTH.steps))
    assert errors[GROWTH.steps - 1] < FITTED < errors[0]


def test_the_seed_determines_everything(state):
    before = torch.get_rng_state()
    first, error = grow(state, faces(16), replace(GROWTH, steps=5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    again, error_again = grow(state, faces(16), replace(GROWTH, steps=5))
    other, _ = grow(state, faces(16), replace(GROWTH, steps=5, seed=2))
    assert error == error_again
    for name in ("generator", "average", "discriminator"):
        assert same(getattr(first, name), getattr(again, name))
        assert not same(getattr(first, name), getattr(other, name))


def test_growing_twice(state):
    once, first = grow(state, faces(16), GROWTH)
    twice, second = grow(once, faces(32), replace(GROWTH, channels=4))
    assert max(first, second) < FITTED
    assert twice.config.channels == {4: 8, 8: 8, 16: 6, 32: 4}
    assert twice.options == "--channels 8 8 6 4 --latent 8 --mapping-layers 2"
    assert kept(twice.generator, state.generator)
    assert drawn(twice.config, twice.average).shape == (4, 3, 32, 32)


def test_a_state_file_holds_the_networks(state, tmp_path):
    write_state(state, tmp_path / "state.safetensors")
    read = read_state(tmp_path / "state.safetensors")
    assert read.images == state.images
    for name in ("generator", "average", "discriminator"):
        assert same(getattr(read, name), getattr(state, name))
    assert [path.name for path in tmp_path.glob("*.partial")] == []


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Run a module's command line. The folder `data` holds a tar file of small faces."""
    data = tmp_path / "data"
    data.mkdir()
    with tarfile.open(data / "utkface128-train-0.tar", "w") as tar:
        for number, pixels in enumerate(faces(32, 12).numpy()):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = file.tell()
            file.seek(0)
            tar.addfile(member, file)

    def run(module, *options):
        monkeypatch.setattr(sys, "argv", ["program", *map(str, options), "--threads", "1"])
        module.main()

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_training_continues_from_what_the_program_writes(state, tmp_path, program, capsys):
    data, out = tmp_path / "data", tmp_path / "new" / "grown.safetensors"
    options = ("--data", data, "--channels", 6, "--steps", 60, "--batch", 8)
    program(growing, "--state", tmp_path / "checkpoint.pt", "--out", out, *options)
    printed = capsys.readouterr().out
    assert "From 8 to 16 pixels. The discriminator's new layers have a relative error of 0." in printed
    shape = "--channels 8 8 6 --latent 8 --mapping-layers 2"
    assert f"python -m training.train_generator --data {data} --start {out} {shape}\n" in printed

    few = ("--batch", 4, "--images", 32 + 12, "--metrics-every", 0, "--log-every", 1)
    program(train_generator, "--data", data, "--work", out.parent, "--start", out, *shape.split(), *few)
    trained = read_state(out.parent / "checkpoint.pt")
    assert trained.images == 32 + 12
    assert len((out.parent / "log.csv").read_text().splitlines()) == 1 + 3
    name = "synthesis.b16.torgb.weight"
    assert not torch.equal(trained.generator[name], load_file(out)[f"g.{name}"])


def test_other_shapes_than_those_of_the_start_are_refused(state, tmp_path, program, capsys):
    with pytest.raises(SystemExit):
        program(train_generator, "--data", tmp_path, "--work", tmp_path / "work", "--start", tmp_path / "checkpoint.pt")
    assert "have other shapes than the plan's; theirs are --channels 8 8 --latent 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--channels": 0}, "channels is 0; allowed is a number from 1 to 4096"),
        ({"--steps": -1}, "steps is -1; allowed is a number from 0 to 1000000"),
        ({"--lr": "nan"}, "lr is nan; allowed is a number from 0 to 1"),
        ({"--data": "new"}, "new holds no pictures to train with; expected are files utkface128-train-*.tar"),
        ({"--out": "checkpoint.pt"}, "they must differ, to keep the trained state"),
        ({"--state": "missing"}, "missing is not the state of a training (No such file or directory"),
        ({"--state": "text"}, "text is not the state of a training (Error while deserializing header"),
        ({"--state": "archive.zip"}, "archive.zip is not the state of a training ("),
        ({"--state": "half"}, "half is not the state of a training (it holds no discriminator); allowed is a"),
        ({"--state": "mixed"}, "mixed is not the state of a training (in its discriminator, a16.weight is missing)"),
    ],
)
def test_wrong_inputs_are_one_plain_sentence(change, sentence, state, tmp_path, program, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, _ = grow(state, faces(16), UNFITTED)
    (tmp_path / "text").write_text("not a network")
    torch.save([1], tmp_path / "archive.zip")
    save_file({f"{prefix}.{name}": x for prefix in ("g", "ema") for name, x in copied(state.average)}, "half")
    mixed = {"g": made.generator, "ema": made.average, "d": state.discriminator}
    save_file({f"{prefix}.{name}": x for prefix in mixed for name, x in copied(mixed[prefix])}, "mixed")
    options = {"--state": "checkpoint.pt", "--data": "data", "--out": "new/grown.safetensors"} | change
    with pytest.raises(SystemExit) as ended:
        program(growing, *(part for option in options.items() for part in option))
    *_, last = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert sentence in last
    assert not (tmp_path / "new" / "grown.safetensors").exists()


def copied(tensors):
    """Names and tensors that can be written to a file."""
    return [(name, x.clone(memory_format=torch.contiguous_format)) for name, x in tensors.items()]


def test_pictures_of_another_side_are_refused(state):
    with pytest.raises(
        ValueError, match=r"have the shape \[32, 8, 8, 3\]; to grow to 16 pixels it must be \[N, 16, 16"
    ):
        grow(state, faces(8), GROWTH)


def test_there_is_a_largest_side(state):
    with pytest.raises(ValueError, match="8 to 1024"):
        growing.grown(replace(state.config, img_resolution=1024, channels={4 * 2**k: 8 for k in range(9)}), 8)
