"""What the forms of stored teacher features cost and lose, on real recordings.

    python benchmarks/feature_storage.py --nuscenes ROOT --pandaset ROOT --espnet decoder.npz [--clip] [--keyframes 2]

Of every recording the basis is learnt on some keyframes and everything is measured on others. Two things are
compared with the teacher's full-precision features at the same points: the cosine, and the class that POP-3D's 74
queries give. Teachers: the street network and ESPNet, both closed in what they see, so their features have a low
rank; and a CLIP image tower with random weights, of full rank, for which classes mean nothing and cosines are a
hard case.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lexivox.data.cache import FeatureCache
from lexivox.data.classes import CITYSCAPES19
from lexivox.data.datasets import open_dataset
from lexivox.data.queries import NUSCENES16_QUERIES
from lexivox.data.types import Sample
from lexivox.supervision.feature_store import FeatureStore
from lexivox.supervision.storage import Storage
from lexivox.supervision.targets import TeacherReading, point_features, teacher_maps, teacher_point_features
from lexivox.teachers.base import ImageTeacher
from lexivox.teachers.class_text import ClassTextTeacher
from lexivox.teachers.clip import MaskClipTeacher
from lexivox.teachers.espnet import EspNetSegmenter
from lexivox.teachers.street import street_teacher
from lexivox.teachers.text import SentenceEncoder
from lexivox.teachers.vocabulary import Vocabulary, best_query, embed, vocabulary

KEYFRAMES = 40_157
"""Of nuScenes, for which the published cache holds 1.8 TB."""
PUBLISHED_BYTES = 4 * 512
FORMS = (
    Storage("points-float16"),
    Storage("points-pca", rank=128),
    Storage("points-pca", rank=64),
    Storage("points-pca", rank=32),
    Storage("points-pca", rank=16),
    Storage("maps"),
    Storage("maps", pool=2),
    Storage("maps-pca", rank=64),
    Storage("maps-pca", rank=64, pool=2),
)


class Keyframes:
    """Some keyframes of a recording, held in memory."""

    classes = None

    def __init__(self, name: str, samples: Sequence[Sample]) -> None:
        self.name, self.samples = name, list(samples)
        self.tokens = [sample.token for sample in samples]
        self.drives = [sample.drive for sample in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self):
        return iter(self.samples)


class Remembering:
    """A teacher that is asked once for every image, so that only the forms are compared."""

    def __init__(self, teacher: ImageTeacher) -> None:
        self.teacher, self.space, self.dim = teacher, teacher.space, teacher.dim
        self._known: dict[tuple[int, int], Tensor] = {}

    def features(self, images: Tensor) -> Tensor:
        key = (int(images.long().sum()), int(images[..., ::7].long().square().sum()))
        if key not in self._known:
            self._known[key] = self.teacher.features(images)
        return self._known[key]


@dataclass
class Totals:
    num_bytes: int = 0
    num_points: int = 0
    cosine: float = 0.0
    worst: float = 1.0
    changed: int = 0
    seconds: float = 0.0


def random_clip(folder: Path) -> MaskClipTeacher:
    """A tower of CLIP's shape at 512 channels, four blocks deep, with random weights."""
    import transformers

    torch.manual_seed(0)
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 8}
    config = transformers.CLIPConfig(
        text_config=small, vision_config={**vision, "image_size": 224, "patch_size": 16}, projection_dim=512
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    return MaskClipTeacher(folder, short_side_px=448)


def measure(store: FeatureStore, samples: Sequence[Sample], full: list[Tensor], words: Vocabulary | None) -> Totals:
    totals = Totals()
    for sample, expected in zip(samples, full, strict=True):
        store.features(sample)
        start = time.perf_counter()
        feature = store.features(sample).feature.float()
        totals.seconds += time.perf_counter() - start
        cosine = F.cosine_similarity(feature, expected, dim=-1)
        totals.num_bytes += store.cache.path(store.key(sample)).stat().st_size
        totals.num_points += len(expected)
        totals.cosine += float(cosine.sum())
        totals.worst = min(totals.worst, float(cosine.quantile(0.01)))
        if words is not None:
            totals.changed += int((best_query(words, feature) != best_query(words, expected)).sum())
    return totals


def report(name: str, teacher: ImageTeacher, words: Vocabulary | None, learnt: Keyframes, samples: Sequence[Sample]):
    full = [teacher_point_features(sample, teacher).feature for sample in samples]
    rows = sum(len(teacher_point_features(s, teacher, TeacherReading("each")).index) for s in samples)
    published = rows * PUBLISHED_BYTES / len(samples)
    print(f"\n### {learnt.name}, {name} ({teacher.dim} channels); as published {published / 1e6:.1f} MB a keyframe\n")
    print("| form | MB a keyframe | TB for nuScenes | mean cosine | 1st percentile | class changed | read ms |")
    print("|---|---|---|---|---|---|---|")
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(learnt, teacher, FeatureCache(folder), max_points=0, storage=form)
            t = measure(store, samples, full, words)
        size = t.num_bytes / len(samples)
        changed = "-" if words is None else f"{100 * t.changed / t.num_points:.2f} %"
        sizes = (f" rank {form.rank}" if form.has_basis else "") + (f" pool {form.pool}" if form.pool > 1 else "")
        print(
            f"| {form.kind}{sizes} | {size / 1e6:.2f} | {size * KEYFRAMES / 1e12:.3f} | {t.cosine / t.num_points:.5f} "
            f"| {t.worst:.4f} | {changed} | {1000 * t.seconds / len(samples):.0f} |",
            flush=True,
        )


def report_pixels(name: str, teacher: ImageTeacher, words: Vocabulary, samples: Sequence[Sample]) -> None:
    """Three ways to read a map at a point, against the published chain of two resizes and rounded pixels."""
    print(f"\n### reading the maps of {name}\n\n| pixels | mean cosine | 1st percentile | class changed | ms |")
    print("|---|---|---|---|---|")
    maps = [list(teacher_maps(sample, teacher)) for sample in samples]
    known = {}
    for pixels in ("chained", "nearest", "bilinear"):
        start = time.perf_counter()
        reading = TeacherReading("each", pixels, unit=False)
        found = [point_features(s, m, reading, teacher.dim) for s, m in zip(samples, maps, strict=True)]
        # of every view the points that the published rule also keeps
        known[pixels] = (found, 1000 * (time.perf_counter() - start) / len(samples))
    expected = torch.cat([f.feature for f in known["chained"][0]])
    for pixels, (found, ms) in known.items():
        rows = [f.feature for f in found]
        if pixels == "bilinear":  # keeps the last row and column of pixels, which the published rule leaves out
            rows = [_common(f, c) for f, c in zip(found, known["chained"][0], strict=True)]
        feature = torch.cat(rows)
        cosine = F.cosine_similarity(feature, expected, dim=-1)
        changed = (best_query(words, feature) != best_query(words, expected)).float().mean()
        print(f"| {pixels} | {cosine.mean():.6f} | {cosine.quantile(0.01):.5f} | {100 * changed:.2f} % | {ms:.0f} |")


def _common(found, chained) -> Tensor:
    """Rows of ``found`` that ``chained`` has too; both list a view's points in rising order, view after view."""
    view_of = [torch.cumsum(torch.cat([torch.zeros(1), (f.index.diff() <= 0).float()]), 0) for f in (found, chained)]
    keys = [v.long() * 10_000_000 + f.index for v, f in zip(view_of, (found, chained), strict=True)]
    return found.feature[torch.isin(keys[0], keys[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nuscenes", type=Path)
    parser.add_argument("--pandaset", type=Path)
    parser.add_argument("--espnet", type=Path)
    parser.add_argument("--clip", action="store_true", help="also a CLIP tower of random weights")
    parser.add_argument("--keyframes", type=int, default=2, help="to learn a basis on, and as many to measure on")
    options = parser.parse_args()
    recordings = []
    if options.nuscenes:
        samples = list(open_dataset("nuscenes", options.nuscenes))
        half = len(samples) // 2
        recordings.append((Keyframes("nuScenes", samples[:half]), samples[half:]))
    if options.pandaset:
        dataset = open_dataset("pandaset", options.pandaset)
        chosen = [dataset[i] for i in range(min(2 * options.keyframes, len(dataset)))]
        recordings.append((Keyframes("PandaSet", chosen[::2]), chosen[1::2]))
    queries = vocabulary(NUSCENES16_QUERIES)
    street = street_teacher()
    teachers: list[tuple[str, ImageTeacher, Vocabulary | None]] = [
        ("street", street, embed(queries, street.text_encoder()))
    ]
    if options.espnet:
        espnet = ClassTextTeacher(EspNetSegmenter(options.espnet), CITYSCAPES19.names, SentenceEncoder())
        teachers.append(("ESPNet", espnet, embed(queries, espnet.text_encoder())))
    with tempfile.TemporaryDirectory() as folder:
        if options.clip:
            teachers.append(("CLIP of random weights", random_clip(Path(folder)), None))
        for learnt, samples in recordings:
            for name, known, words in teachers:
                teacher = Remembering(known)
                report(name, teacher, words, learnt, samples)
                if words is not None:
                    report_pixels(name, teacher, words, samples)


if __name__ == "__main__":
    main()
