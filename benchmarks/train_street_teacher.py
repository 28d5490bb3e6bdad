"""Trains the embedded street teacher and writes its weights, its text matrix and its measured accuracy.

    python benchmarks/train_street_teacher.py

Every drive comes from a seed at or above 900000: no demo, test or claim may use those. Held-out drives have
seeds of their own. One thread of an idle CPU needs about four minutes, rendering included.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from lexivox.data.synthetic import Concept, SyntheticDrive
from lexivox.data.synthetic.concepts import CONCEPT_NAMES
from lexivox.teachers.street import StreetNet
from lexivox.teachers.text import CenteredTextEncoder, SentenceEncoder, centered_space

TRAIN_SEED, HELD_OUT_SEED = 900_000, 950_000
WEIGHTS = Path(__file__).parents[1] / "src" / "lexivox" / "teachers" / "weights"
PROMPTS = ("a photo of a {}.",)
CONCEPTS = (
    "car", "truck", "bus", "bicycle", "motorcycle", "person on foot", "tree", "building", "door",
    "window", "car wheel", "road", "sidewalk", "grass", "pole", "traffic sign", "traffic cone", "barrier",
    "sky",
)  # fmt: skip
IGNORED = len(CONCEPTS)

# The city's own words that the teacher calls something else. Two names were chosen so that the usual queries
# of nuScenes find them: "pedestrian" lies nearer to "pedestrian walkway" than to "adult", "tyre" to trailers.
SAME_AS = {
    "lane marking": "road",
    "kerb": "sidewalk",
    "building wall": "building",
    "tree trunk": "tree",
    "tree crown": "tree",
    "tyre": "car wheel",
    "pedestrian": "person on foot",
}
# Panes of a vehicle belong to the whole vehicle, whatever its kind (raw lidarseg id).
VEHICLE_OF_RAW = {17: "car", 23: "truck", 16: "bus"}


@dataclass(frozen=True, slots=True)
class Pictures:
    images: Tensor  # (N, 3, H, W) uint8
    labels: Tensor  # (N, H, W) uint8, IGNORED where nothing is asked
    targets: Tensor  # (N, K, H/4, W/4) uint8, pixels of every concept in a cell of 16


def label_of_concept() -> np.ndarray:
    """Teacher's label of every fine concept of the city."""
    names = [SAME_AS.get(name, name) for name in CONCEPT_NAMES]
    return np.array([CONCEPTS.index(name) if name in CONCEPTS else IGNORED for name in names], np.uint8)


def label_pixels(drive: SyntheticDrive, concept: np.ndarray, track: np.ndarray) -> np.ndarray:
    label = label_of_concept()[concept]
    label_of_track = np.full(max((actor.track for actor in drive.actors), default=0) + 1, IGNORED, np.uint8)
    for actor in drive.actors:
        if actor.raw in VEHICLE_OF_RAW:
            label_of_track[actor.track] = CONCEPTS.index(VEHICLE_OF_RAW[actor.raw])
    pane = concept == Concept.CAR_WINDOW
    label[pane] = label_of_track[track[pane]]
    return label


def render(first_seed: int, num_drives: int, keyframes: range) -> Pictures:
    images, labels = [], []
    for seed in range(first_seed, first_seed + num_drives):
        drive = SyntheticDrive(seed, num_keyframes=keyframes.stop)
        for index in keyframes:
            shot = drive.pictures(index)
            images.append(torch.from_numpy(shot.rgb).permute(0, 3, 1, 2))
            labels.append(torch.from_numpy(label_pixels(drive, shot.concept, shot.track)))
    targets = torch.cat([cell_counts(label) for label in labels])
    return Pictures(torch.cat(images).contiguous(), torch.cat(labels), targets)


def class_weights(labels: Tensor) -> Tensor:
    """Rare concepts count more, by the power 0.3 of their rarity; mean weight of a pixel 1."""
    share = torch.bincount(labels.flatten().long(), minlength=IGNORED + 1)[:IGNORED].float()
    share = (share / share.sum()).clamp_min(1e-5)
    weight = share**-0.3
    return weight / (weight * share).sum()


def cell_counts(labels: Tensor) -> Tensor:
    """How many of the 4x4 pixels of a cell show each concept: (N, K, h, w)."""
    one_hot = torch.stack([labels == index for index in range(IGNORED)], dim=1)
    return (F.avg_pool2d(one_hot.float(), 4) * 16).to(torch.uint8)


def augment(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirrored half of the time, other exposure and colour cast."""
    if torch.rand(1, generator=generator) < 0.5:
        images, targets = images.flip(-1), targets.flip(-1)
    gain = 0.75 + 0.5 * torch.rand(len(images), 1, 1, 1, generator=generator)
    cast = 0.94 + 0.12 * torch.rand(len(images), 3, 1, 1, generator=generator)
    return (images.float() * gain * cast).clamp(0, 255), targets.float() / 16


def train(network: StreetNet, data: Pictures, steps: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.15)
    weight = class_weights(data.labels)[:, None, None]
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(data.images), generator=generator)
        rows, order = order[:batch], order[batch:]
        images, targets = augment(data.images[rows], data.targets[rows], generator)
        images = images.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images).float()
        loss = -(weight * targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)


@torch.no_grad()
def confusion(network: StreetNet, data: Pictures) -> Tensor:
    """Truth by answer, counted at the full resolution with logits enlarged bilinearly."""
    table = torch.zeros(IGNORED * IGNORED, dtype=torch.int64)
    for images, labels in zip(data.images.split(6), data.labels.split(6), strict=True):
        logits = F.interpolate(network(images.float()), size=labels.shape[-2:], mode="bilinear")
        known = labels != IGNORED
        pair = labels.long() * IGNORED + logits.argmax(dim=1)
        table += torch.bincount(pair[known], minlength=len(table))
    return table.view(IGNORED, IGNORED)


def accuracy(table: Tensor) -> dict:
    hit = table.diag().float()
    union = table.sum(0) + table.sum(1) - table.diag()
    iou = {name: round(float(hit[i] / union[i]), 3) for i, name in enumerate(CONCEPTS) if table[i].sum() > 0}
    return {
        "pixel_accuracy": round(float(hit.sum() / table.sum()), 4),
        "mean_iou": round(sum(iou.values()) / len(iou), 4),
        "iou": iou,
    }


def write(network: StreetNet, widths: tuple[int, ...], recipe: dict, measured: dict) -> None:
    encoder = SentenceEncoder(prompts=PROMPTS)
    center = encoder.encode(CONCEPTS).mean(dim=0).half().float()
    arrays = {key: value.half() for key, value in network.state_dict().items() if value.is_floating_point()}
    arrays["text_matrix"] = CenteredTextEncoder(encoder, center).encode(CONCEPTS).half()
    arrays["center"] = center.half()
    description = {
        "what": "street teacher: concept probabilities of a synthetic-trained network times sentence vectors",
        "concepts": list(CONCEPTS),
        "prompts": list(PROMPTS),
        "base_space": encoder.space,
        "space": centered_space(encoder.space, center),
        "widths": list(widths),
        "parameters": sum(value.numel() for value in network.parameters()),
        "recipe": recipe,
        "held_out": measured,
    }
    WEIGHTS.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in arrays.items()}, WEIGHTS / "street.safetensors")
    (WEIGHTS / "street.safetensors").chmod(0o644)  # safetensors writes for the owner only
    (WEIGHTS / "street.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", type=int, default=40)
    parser.add_argument("--held-out", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    keyframes = range(0, 40, 10)
    data = render(TRAIN_SEED, options.drives, keyframes)
    held_out = render(HELD_OUT_SEED, options.held_out, keyframes)
    print(f"rendered {len(data.images)} + {len(held_out.images)} images in {time.perf_counter() - start:.0f} s")
    torch.manual_seed(options.seed)  # initial weights
    widths = (16, 32, 48, 80)
    network = StreetNet(len(CONCEPTS), widths).to(memory_format=torch.channels_last)
    network.train()
    train(network, data, options.steps, options.batch, options.seed)
    network = network.half().float().eval()  # as it will be stored
    measured = accuracy(confusion(network, held_out))
    recipe = {
        "script": "benchmarks/train_street_teacher.py",
        "train_seeds": [TRAIN_SEED, TRAIN_SEED + options.drives - 1],
        "held_out_seeds": [HELD_OUT_SEED, HELD_OUT_SEED + options.held_out - 1],
        "reserved_seeds": "900000 and above belong to the teacher: no demo, test or claim may use them",
        "keyframes": list(keyframes),
        "image_hw": list(data.images.shape[-2:]),
        "steps": options.steps,
        "batch": options.batch,
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start),
    }
    write(network, widths, recipe, measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
