"""Train the face network from tar files to a weights file, on one core.

    python -m training.train_facenet --data DATA --yunet FILE --work WORK
    python -m training.train_facenet --data DATA --yunet FILE --work WORK --export assets/facenet64.safetensors

DATA holds utkface128-train-*.tar and tinyimagenet64-train-*.tar. YuNet's landmarks of the faces are the targets. All
output goes to WORK: the decoded pictures with their landmarks, a checkpoint every few minutes (the same command resumes
from it), and log.csv.

Every hundred steps the network searches pictures without a face. Where it sees one nevertheless, the window is kept,
and from then on a part of the windows without a face are such mistakes.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ilo.photos import facenet, faces, yunet
from ilo.photos.facenet import FACE, STRIDE, WINDOW, FaceNet, to_input
from training.face_windows import Pictures, background, compose, relight
from training.pictures import read_faces, read_tars

CHECKPOINT_SECONDS = 180.0
STEPS, BATCH, RATE, DECAY = 6000, 128, 2e-3, 0.998  # steps, windows per step, peak learning rate, weight average
LANDMARK_WEIGHT, LANDMARK_BETA = 8.0, 0.02  # of the smooth l1 loss, in fractions of the window
MINED_FROM, MINED_EVERY, MINED, MINED_SHARE = 500, 100, 8000, 0.4  # steps, steps, windows kept, share of faceless ones
SEARCHED, SIDE, PER_PICTURE = 16, 256, 6  # pictures without a face per search, their pixels per side, windows each
VIEWS = ((64, 192), (32, 128))  # for YuNet's landmarks: grey frame around a face in pixels, and size with it
ANIMALS = "n02600000"  # WordNet ids before this one are animals
# Classes whose pictures often show people, not always with a face that YuNet sees.
# fmt: off
PEOPLE = {
    "n02669723", "n02883205", "n02892201", "n03388043", "n03404251", "n03424325", "n03617480", "n03763968",
    "n03814639", "n04251144", "n04259630", "n04356056", "n06596364", "n07614500", "n07615774", "n02415577",
}
# fmt: on


def aligned(data: Path, file: Path, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training faces uint8 [N, 128, 128, 3] and YuNet's landmarks [N, 5, 2] in pixels; those without are left out."""
    pictures, cache = read_faces(data, 128, work), work / "landmarks.npy"
    if not cache.exists():
        net = detector(file)
        np.save(cache, [measured(p, net) for p in tqdm(pictures, desc="landmarks", mininterval=10)])
    points = np.load(cache)
    good = np.isfinite(points[:, 0, 0])
    return pictures[good], points[good]


def measured(picture: np.ndarray, net: cv2.FaceDetectorYN) -> np.ndarray:
    """YuNet's landmarks [5, 2] of the face in the middle of a picture, means over views that make its errors cancel.

    NaN if it sees no face in one of them.
    """
    found = []
    for frame, size in VIEWS:
        framed = cv2.copyMakeBorder(picture, frame, frame, frame, frame, cv2.BORDER_CONSTANT, value=faces.GREY)
        scale = size / framed.shape[0]
        view = cv2.resize(framed, (size, size), interpolation=cv2.INTER_AREA)
        for mirrored in (False, True):
            rows = yunet.rows(view[:, ::-1] if mirrored else view, net)
            if not len(rows):
                return np.full((5, 2), np.nan)
            centres = rows[:, :2] + rows[:, 2:4] / 2
            points = (rows[np.abs(centres - size / 2).max(1).argmin(), 4:14].reshape(5, 2) + 0.5) / scale - frame
            found.append(np.array([[picture.shape[1], 0]]) * mirrored + points * ((-1, 1) if mirrored else (1, 1)))
            if mirrored:
                found[-1] = found[-1][faces.MIRRORED]
    return np.mean(found, 0)


def faceless(data: Path, file: Path, work: Path) -> np.ndarray:
    """Pictures without a face, uint8 [M, 64, 64, 3]: faces that YuNet sees are painted over, except those of animals.

    Pictures of classes that often show people are left out if YuNet sees none.
    """
    cache = work / "faceless.npy"
    if not cache.exists():
        tars = sorted(data.glob("tinyimagenet64-train-*.tar"))
        pictures, labels = read_tars(tars, 64, work / "others.npz", lambda name: int(name[1:9]))
        net = detector(file)
        kept = []
        for picture, label in zip(tqdm(pictures, desc="faceless", mininterval=10), labels, strict=True):
            wnid = f"n{label:08d}"
            if wnid >= ANIMALS or wnid in PEOPLE:
                people = boxes(picture, net)
                if wnid in PEOPLE and not len(people):
                    continue
                picture = _painted(picture, people)
            kept.append(picture)
        np.save(cache, np.stack(kept))
    return np.load(cache)


def detector(file: Path) -> cv2.FaceDetectorYN:
    """YuNet with a low threshold."""
    net = yunet.load(file)
    net.setScoreThreshold(0.4)
    return net


def boxes(picture: np.ndarray, net: cv2.FaceDetectorYN) -> np.ndarray:
    """Faces that YuNet sees in a picture uint8 [64, 64, 3]: left, top, width and height, [n, 4]."""
    return yunet.rows(cv2.resize(picture, (160, 160), interpolation=cv2.INTER_CUBIC), net)[:, :4] * 64 / 160


def _painted(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A picture with boxes (left, top, width, height), enlarged by a third, replaced by their smoothed edge."""
    picture = picture.copy()
    for left, top, width, height in places:
        low = np.clip([left - width / 6, top - height / 6], 0, 62).astype(int)
        high = np.clip([left + width * 7 / 6, top + height * 7 / 6], low + 2, 64).astype(int)
        part = picture[low[1] : high[1], low[0] : high[0]]
        edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        part[...] = np.median(edge, 0)
    return picture


class Training:
    """The state of a training: network, weight average, optimiser, progress, and mistakes found so far."""

    def __init__(self, pictures: Pictures, file: Path, work: Path, seed: int, steps: int, brief: bool):
        torch.manual_seed(seed)
        self.pictures, self.yunet, self.path = pictures, detector(file), work / "checkpoint.pt"
        self.seed, self.steps, self.brief = seed, steps, brief
        self.network = FaceNet(norm=True).to(memory_format=torch.channels_last).train()
        self.average = FaceNet(norm=True).to(memory_format=torch.channels_last).eval()
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=0.01)
        self.mined = np.empty((0, WINDOW, WINDOW, 3), np.uint8)
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.mined, self.step, self.seconds = state["mined"].numpy(), state["step"], state["seconds"]

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "mined": torch.from_numpy(self.mined),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Windows [B, 3, 64, 64], labels [B], landmarks [B, 5, 2]."""
        windows, labels, landmarks = compose(self.pictures, BATCH, rng)
        if len(self.mined):
            count = round(BATCH / 2 * MINED_SHARE * min(1, len(self.mined) / 500))
            for i, number in enumerate(rng.integers(0, len(self.mined), count), BATCH - count):
                window = self.mined[number, :, :: rng.choice((-1, 1))]
                windows[i] = relight(window, rng) if rng.random() < 0.5 else window
        return to_input(windows), torch.from_numpy(labels), torch.from_numpy(landmarks)

    def update(self) -> tuple[float, float, float]:
        """Train for one step. Returns both losses and the share of right answers."""
        rng = np.random.default_rng([self.seed, self.step])
        if self.step >= MINED_FROM and self.step % MINED_EVERY == 0:
            self.mined = np.concatenate([self.mined, self.mistakes(rng)])[-MINED:]
        share = self.step / self.steps
        rate = RATE * min(1.0, share / 0.03) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        x, labels, wanted = self.batch(rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.brief):
            logits, landmarks = (y[:, 0, 0] for y in self.network(x))
        logits, landmarks = logits.float(), landmarks.float()
        seen = F.binary_cross_entropy_with_logits(logits, labels.float())
        placed = F.smooth_l1_loss(landmarks[labels], wanted[labels], beta=LANDMARK_BETA)
        self.optimiser.zero_grad()
        (seen + LANDMARK_WEIGHT * placed).backward()
        self.optimiser.step()
        self.step += 1
        decay = min(DECAY, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                mean.copy_(now) if not now.is_floating_point() else mean.lerp_(now, 1 - decay)
        right = ((logits > 0) == labels).float().mean()
        away = (landmarks[labels] - wanted[labels]).norm(dim=-1).mean()
        return seen.item(), away.item(), right.item()

    @torch.no_grad()
    def mistakes(self, rng: np.random.Generator) -> np.ndarray:
        """Windows of pictures without a face in which the network sees one, before or after aligning.

        Those in which YuNet sees one, too, are left out: they may show people after all.
        """
        network, found = self.average.folded(), []
        for _ in range(SEARCHED):
            tiles = [background(self.pictures, rng) for _ in range((SIDE // WINDOW) ** 2)]
            rows = [np.concatenate(tiles[i :: SIDE // WINDOW], 1) for i in range(SIDE // WINDOW)]
            picture = np.concatenate(rows)
            if rng.random() < 0.5:  # as large as it gets, so that the tiles' seams do not matter
                picture = cv2.resize(picture[: SIDE // 2, : SIDE // 2], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            logits, landmarks = (y[0] for y in network(to_input(picture[None])))
            order = logits.flatten().topk(PER_PICTURE)
            for value, index in zip(order.values.tolist(), order.indices.tolist(), strict=True):
                if value < -1:
                    break
                i, j = divmod(index, logits.shape[1])
                window = picture[i * STRIDE :, j * STRIDE :][:WINDOW, :WINDOW]
                found.append(window)
                points = landmarks[i, j].double().numpy() * WINDOW + np.array([j, i]) * STRIDE
                upright = faces.crop(picture, faces.similarity(0.5 + 0.7 * (FACE - 0.5), points), WINDOW)
                if network(to_input(upright[None]))[0].item() > -1:
                    found.append(upright)
        found = [window for window in found if not len(boxes(window, self.yunet))]
        return np.stack(found) if found else self.mined[:0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's file")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="faster on processors that know this number format")
    parser.add_argument("--export", type=Path, help="write the weights of the last checkpoint and exit")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    args.work.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(*aligned(args.data, args.yunet, args.work), faceless(args.data, args.yunet, args.work))
    training = Training(pictures, args.yunet, args.work, args.seed, args.steps, args.bfloat16)
    if args.export:
        export(training, args.export)
        return
    log = args.work / "log.csv"
    # Drop log lines of steps after the checkpoint, because these are repeated.
    rows = log.read_text().splitlines()[1:] if log.exists() else []
    kept = [row for row in rows if int(row.split(",")[0]) <= training.step]
    log.write_text("\n".join(["step,loss,distance,right,mined,seconds", *kept]) + "\n")
    saved, values = time.monotonic(), []
    while training.step < args.steps:
        started = time.monotonic()
        values.append(training.update())
        training.seconds += time.monotonic() - started
        if training.step % 100 == 0:
            means = [f"{value:.4f}" for value in np.mean(values, 0)]
            row = [training.step, *means, len(training.mined), f"{training.seconds:.0f}"]
            with log.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
            values = []
        if time.monotonic() - saved > CHECKPOINT_SECONDS or training.step == args.steps:
            training.save()
            saved = time.monotonic()


def export(training: Training, path: Path) -> None:
    """Write the averaged weights of the last checkpoint."""
    about = {
        "task": "a face in the middle of 64 × 64 pixels, and its eyes, nose and mouth corners, image-left first",
        "training": {"steps": training.step, "batch": BATCH, "seed": training.seed, "seconds": round(training.seconds)},
        "data": f"{len(training.pictures.faces):,} faces of UTKFace with YuNet's landmarks; pictures of Tiny ImageNet",
        "licence": "non-commercial research and education (terms of the training data)",
    }
    facenet.save(training.average.folded(), path, about)


if __name__ == "__main__":
    main()
