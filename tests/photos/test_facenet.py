"""The face network: windows of a picture, folding, and its file."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ilo.photos import facenet
from ilo.photos.facenet import STRIDE, WINDOW, FaceNet, to_input
from ilo.settings import SettingsError
from ilo.weights.registry import BY_ID


@pytest.fixture
def trained():
    """A network in which batch normalisation has seen something."""
    torch.manual_seed(0)
    network = FaceNet(norm=True).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 3, 80, 72) + 0.3)
    return network.eval()


def test_a_picture_is_looked_at_window_by_window():
    picture = np.random.default_rng(0).integers(0, 256, (100, 90, 3), np.uint8)
    network = facenet.load()
    logits, landmarks = network(to_input(picture[None]))
    assert logits.shape == (1, 5, 4)
    assert landmarks.shape == (1, 5, 4, 5, 2)
    row, column = 3, 2
    window = picture[row * STRIDE :, column * STRIDE :][:WINDOW, :WINDOW]
    logit, points = network(to_input(window[None]))
    assert logit.shape == (1, 1, 1)
    torch.testing.assert_close(logits[:, row, column], logit[:, 0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(landmarks[:, row, column], points[:, 0, 0], atol=1e-4, rtol=1e-4)


def test_folding_changes_nothing(trained):
    x = torch.randn(2, 3, WINDOW, WINDOW)
    folded = trained.folded()
    assert not any("num_batches" in name for name in folded.state_dict())
    for own, theirs in zip(folded(x), trained(x), strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_a_written_file_is_read_again(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    facenet.save(trained.folded(), path, {"task": "a test"})
    x = torch.randn(1, 3, WINDOW, WINDOW)
    for own, theirs in zip(facenet.read(path)(x), trained(x), strict=True):
        torch.testing.assert_close(own, theirs, atol=0.02, rtol=0.02)


def test_the_embedded_file_is_small():
    assert BY_ID["facenet64"].path.stat().st_size < 1_000_000


def test_a_damaged_file_is_refused_in_one_sentence(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(SettingsError, match=r"net\.safetensors: "):
        facenet.read(path)
    save_file({"layers.0.weight": torch.zeros(1)}, path)
    with pytest.raises(SettingsError, match="is missing"):
        facenet.read(path)
    with pytest.raises(SettingsError, match="no such weights file"):
        facenet.read(tmp_path / "none.safetensors")
