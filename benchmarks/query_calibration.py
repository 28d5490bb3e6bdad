"""Which score tells best whether a phrase is there at all? Five candidates on the held-out keyframes of a run.

    python benchmarks/query_calibration.py runs/claims/pop3d_tiny_seed0
    python benchmarks/query_calibration.py runs/panda --calibrate-on train

A candidate is a score per voxel; a phrase scores its third best voxel. The threshold comes from absent things on the
calibration keyframes (the run's absent things, 5 % of them may pass). It is tested on other keyframes (other drives,
where there are several) with other words: phrasings that occur in no config and no teacher ("there" when at least
five LiDAR points in the map carry what they mean, "not there" when none does), and things that no street holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lexivox.data.collate import grid_from_lidar
from lexivox.evaluate.retrieval import average_precision
from lexivox.experiment import Experiment, open_run
from lexivox.grounding.absent import ABSENT_THINGS
from lexivox.grounding.calibration import COUNT, Calibrator, peak
from lexivox.grounding.rivals import Rivals, score_rivals
from lexivox.model import OccupancyModel
from lexivox.ops.cosine import cosine_rows, inverse_lengths
from lexivox.run_folder import load
from lexivox.supervision.targets import project_lidar
from lexivox.teachers.vocabulary import embed, vocabulary

STREET = {
    "car, car window, tyre": "automobile, sports car, sedan, hatchback, SUV, taxi, parked vehicle",
    "truck": "lorry, pickup, heavy goods vehicle, delivery truck, semi-trailer",
    "bus": "coach, minibus, public transport vehicle, double-decker",
    "bicycle": "bike, mountain bike, cycle, two-wheeler",
    "motorcycle": "motorbike, moped, vespa, scooter",
    "pedestrian": "person walking, human, man, woman, passer-by, child",
    "tree crown, tree trunk": "foliage, oak, shrub, maple, leafy branches, bush",
    "building wall, door, window": "house, skyscraper, apartment block, facade, brick wall, shop",
    "door": "entrance, doorway, gate",
    "window": "window pane, glazing, glass panes",
    "road, lane marking": "street, asphalt, driving lane, tarmac, highway",
    "sidewalk, kerb": "pavement, footpath, walkway, place to walk",
    "grass": "lawn, meadow, turf, green field",
    "pole": "lamp post, street light, mast, column",
    "traffic sign": "road sign, stop sign, signpost",
    "traffic cone": "pylon, safety cone, orange cone",
    "barrier": "fence, guard rail, concrete blocks, roadblock",
}
"""Fine classes of the synthetic city -> phrasings of them."""

PANDASET = {
    "car": STREET["car, car window, tyre"],
    "truck": f"{STREET['truck']}, {STREET['bus']}",
    "two_wheeler": f"{STREET['bicycle']}, {STREET['motorcycle']}",
    "pedestrian": STREET["pedestrian"],
    "vegetation": STREET["tree crown, tree trunk"],
    "building": STREET["building wall, door, window"],
    "road": STREET["road, lane marking"],
    "sidewalk": STREET["sidewalk, kerb"],
}

NEVER = """cello, hippopotamus, aircraft carrier, coffee maker, dishwasher, walrus, saxophone, blender, armchair,
rhinoceros, flamingo, dining table, tablet computer, spoon, lasagna, strawberry, candlestick, binoculars, chocolate bar,
dartboard, sledge, tepee, geyser, lagoon, dam, water wheel, sphinx, drawbridge, zeppelin, hang glider, rocket,
space station, wizard, unicorn, werewolf, whale, starfish, seaweed, yacht, kayak, propeller, snowboard, cable car,
carousel, water slide, billiard table, football, basketball hoop, ice rink, dumbbell, yoga mat, loom, vacuum cleaner,
kettle, wok, teacup, cocktail, doughnut, hot dog, noodles, bread, cherry, melon, truffle, rose bouquet, tulip,
scorpion, lizard, turtle, panda, wolf, lion, llama, pig, goat, duck, eagle, salmon, rabbit, banjo, flute,
tambourine, harp, loudspeaker, radio, screen, joystick, scanner, rocking chair, safe, paper clip,
glue stick, crayon, dictionary, whiteboard, compass, magnet, beaker, thermometer, operating table, mattress, quilt, rug,
dresser, razor, nail polish, necklace, pocket watch, scarf, sandals, marionette, domino, balloon animal, easter egg,
bonfire, canvas, harpoon, bow and arrow, shield, pulpit, mosaic, eiffel tower, quarry, saw, screwdriver, lightning,
planet, rapids, desert, swamp, orchard, ant hill, fish tank, crib, sauna, oven, bidet, bubble bath"""
"""None of them is among the absent things that calibrate."""

CANONICAL = ("object", "things", "stuff", "texture")
"""What LERF compares with."""


def split(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", " ").split(",") if part.strip()]


@dataclass(frozen=True)
class Keyframe:
    """Features of occupied voxels, whether points carry each fine class there, and how many points do in all."""

    features: Tensor
    inverse: Tensor
    labels: Tensor  # (N, fine classes)
    counts: Tensor


def keyframes(experiment: Experiment, model: OccupancyModel, part: str) -> Iterator[tuple[str, Keyframe]]:
    dataset = experiment.config.data.open(part, labels=True)
    queries = experiment.query_set(dataset)
    assert queries is not None
    for number in range(len(dataset)):
        sample = dataset[number]
        prediction = model.predict(sample)
        xyz = grid_from_lidar(sample, model.grid).apply(sample.lidar.xyz)
        inside = model.grid.contains(xyz) & project_lidar(sample)[1].any(dim=0)  # what a camera sees
        fine = queries.of_points(number, sample)[inside]
        volume = torch.zeros((*model.grid.shape, len(queries.names)), dtype=torch.bool)
        x, y, z = model.grid.index_from_xyz(xyz[inside]).T
        volume[x, y, z, fine] = True
        rows, (x, y, z) = prediction.read_occupied("language"), prediction.occupied_index.T
        counts = fine.bincount(minlength=len(queries.names))
        yield sample.drive, Keyframe(rows, inverse_lengths(rows), volume[x, y, z], counts)


def candidates(rivals: Rivals, canonical: Tensor) -> dict[str, Callable[[Keyframe, Tensor], Tensor]]:
    """Voxel scores (phrases, voxels) of each candidate."""
    is_class = rivals.class_of >= 0

    def cosine(frame: Keyframe, vectors: Tensor) -> Tensor:
        return cosine_rows(frame.features, frame.inverse, vectors)

    def against_canonical(frame: Keyframe, vectors: Tensor) -> Tensor:
        return cosine(frame, vectors) - cosine(frame, canonical).amax(dim=0)

    def against(keep: Tensor) -> Callable[[Keyframe, Tensor], Tensor]:
        def score(frame: Keyframe, vectors: Tensor) -> Tensor:
            competing = torch.stack([rivals.competing(vector[None]) for vector in vectors]) & keep
            return cosine(frame, vectors) - score_rivals(rivals, frame.features, frame.inverse).soft_best(competing)

        return score

    return {
        "plain cosine": cosine,
        "against four canonical words (LERF)": against_canonical,
        "against absent things": against(~is_class),
        "against the run's other classes": against(is_class),
        "against both (kept)": against(torch.ones_like(is_class)),
    }


def auroc(there: Tensor, absent: Tensor) -> float:
    """Chance that something that is there scores above something that is not."""
    if not len(there) or not len(absent):
        return float("nan")
    higher = (there[:, None] > absent[None]).double() + 0.5 * (there[:, None] == absent[None]).double()
    return float(higher.mean())


def row(name: str, score: Callable[[Keyframe, Tensor], Tensor], calibrate: Sequence[Keyframe], test: Sequence[Keyframe],
        absent: Tensor, never: Tensor, phrases: Tensor, meant: Tensor) -> str:  # fmt: skip
    null = torch.cat([peak(score(frame, absent), COUNT) for frame in calibrate])
    threshold = null.quantile(0.95)
    there, hard, far, precision, recall, ranking = [], [], [], [], [], []
    for frame in test:
        voxels = score(frame, phrases)
        best, count = peak(voxels, COUNT), (meant * frame.counts).sum(dim=1)
        there.append(best[count >= 5])
        hard.append(best[count == 0])
        far.append(peak(score(frame, never), COUNT))
        known = frame.labels.any(dim=1)
        for number in ((count >= 5) & (best > threshold)).nonzero()[:, 0].tolist():
            right = frame.labels[known][:, meant[number].bool()].any(dim=1)
            found = voxels[number, known] > threshold
            both = float((right & found).sum())
            precision.append(both / max(1, int(found.sum())))
            recall.append(both / max(1, int(right.sum())))
        for number in (count >= 5).nonzero()[:, 0].tolist():
            right = frame.labels[known][:, meant[number].bool()].any(dim=1)
            if bool(right.any()):
                ranking.append(average_precision(voxels[number, known], right))
    there, hard, far = torch.cat(there), torch.cat(hard), torch.cat(far)
    right, wrong = (there > threshold).sum(), (far > threshold).sum() + (hard > threshold).sum()
    numbers = [
        auroc(there, far),
        auroc(there, hard),
        *(float((s > threshold).double().mean()) for s in (there, far, hard)),
    ]
    numbers += [float(right / (right + wrong)), *(sum(v) / max(1, len(v)) for v in (precision, recall, ranking))]
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in numbers) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--calibrate-on", choices=("val", "train"), default="val", help="val: the first 40 %% of its drives"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    experiment, model = open_run(arguments.run), load(arguments.run)
    held_out = list(keyframes(experiment, model, "val"))
    drives = list(dict.fromkeys(drive for drive, _ in held_out))
    if arguments.calibrate_on == "train":
        calibrate, test = [f for _, f in keyframes(experiment, model, "train")], [f for _, f in held_out]
    else:
        first = set(drives[: max(1, round(0.4 * len(drives)))])
        calibrate = [f for drive, f in held_out if drive in first]
        test = [f for drive, f in held_out if drive not in first]
    encoder = model.text_encoder
    assert encoder is not None
    calibrator = Calibrator(encoder, embed(vocabulary(experiment.config.vocabulary), encoder))
    for frame in calibrate:
        calibrator.update(frame.features, model.grid.voxel_m3)
    known = calibrator.result()
    dataset = experiment.config.data.open("val", labels=True)
    queries = experiment.query_set(dataset)
    assert queries is not None
    table = PANDASET if experiment.config.data.kind == "pandaset" else STREET
    pairs = [(meant, phrase) for meant, phrases in table.items() for phrase in split(phrases)]
    meant = torch.zeros(len(pairs), len(queries.names), dtype=torch.int64)
    for number, (classes, _) in enumerate(pairs):
        meant[number, [queries.names.index(name) for name in split(classes)]] = 1
    words = [encoder.encode(list(texts)) for texts in (ABSENT_THINGS, split(NEVER), [p for _, p in pairs], CANONICAL)]
    print(
        f"{len(calibrate)} keyframes calibrate, {len(test)} test; {len(pairs)} phrasings, {len(words[1])} absent things"
    )
    print("| score | AUROC, absent things | AUROC, absent classes | found | false: things | false: classes | precision "
          "| voxel precision | voxel recall | voxel mAP |\n|---|" + "---|" * 9)  # fmt: skip
    for name, score in candidates(known.rivals, words[3]).items():
        print(row(name, score, calibrate, test, words[0], words[1], words[2], meant), flush=True)


if __name__ == "__main__":
    main()
