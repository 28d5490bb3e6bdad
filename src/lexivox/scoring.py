"""What ``evaluate`` can be asked for, which methods a config has to score, and the files that parts are kept in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lexivox.config import DataConfig, ExperimentConfig, NuscenesData
from lexivox.config_text import load_config
from lexivox.data.classes import ClassTable
from lexivox.data.clips import WithPast
from lexivox.data.datasets import open_dataset
from lexivox.data.retrieval import read_retrieval
from lexivox.data.types import Sample, SampleDataset
from lexivox.errors import ConfigError, DataError, LexivoxError
from lexivox.evaluate.benchmark import RetrievalBenchmark
from lexivox.evaluate.comparison import Comparison, ScoredRun, compare
from lexivox.evaluate.evaluation import Evaluation, Part
from lexivox.evaluate.methods import Method, ModelMethod, SavedMaps, TeacherMethod, TeacherVoxels, average_map
from lexivox.evaluate.protocol import DepthProtocol, Occ3dProtocol, Pop3dProtocol, RunProtocol
from lexivox.evaluate.report import ScoreTable
from lexivox.evaluate.run import evaluate
from lexivox.files import write_atomically
from lexivox.geometry.grid import POP3D
from lexivox.model import OccupancyModel
from lexivox.teachers.vocabulary import Vocabulary
from lexivox.view.bars import BarRow, bar_chart

if TYPE_CHECKING:
    from lexivox.experiment import Experiment

SCORES_FILE, TABLES_FILE = "scores.json", "scores.md"
COMPARISON_FILE, CHART_FILE = "comparison.json", "comparison.svg"
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How a run is scored.

    Attributes:
        baselines: add the model on black images, the average of the training keyframes, and the teacher in the voxels
            that LiDAR hits.
        protocols: definitions of the scores; empty for the one of the run's config.
        part: which share of the keyframes.
        retrieval: folder of the retrieval benchmark, see :mod:`lexivox.data.retrieval`.
        predictions: folder of maps, see :meth:`Prediction.save`, scored instead of the model's own answers.
    """

    baselines: bool = False
    protocols: tuple[RunProtocol, ...] = ()
    part: Part = Part(1, 1)  # noqa: RUF009 frozen
    retrieval: Path | None = None
    predictions: Path | None = None


def count_run(run: Experiment, model: OccupancyModel, options: EvaluateOptions, on_progress: OnProgress) -> Evaluation:
    """The counts behind the scores of a run, of the whole split or of a part; parts are kept in the run folder."""
    benchmark = _benchmark(run, options)  # first: a wrong folder is told before hours of scoring
    protocols = options.protocols or (run.config.protocol,)
    pop3d = [protocol for protocol in protocols if isinstance(protocol, Pop3dProtocol)]
    dataset = _held_out(run, protocols)
    table: ClassTable = dataset.classes  # type: ignore[assignment]
    asks_classes = any(not isinstance(protocol, DepthProtocol) for protocol in protocols)
    words = run.class_vocabulary() if asks_classes and not run.is_supervised else None
    methods = _methods(run, model, dataset, words, options)
    evaluation = evaluate(
        methods,
        dataset,
        model.grid,
        table,
        protocols=protocols,
        queries=run.query_set(dataset) if pop3d else None,
        text_encoder=run.text_encoder if pop3d and not run.is_supervised else None,
        part=options.part,
        on_progress=lambda done, total: on_progress("evaluating", done, total),
    )
    evaluation.notes = (*evaluation.notes, *silent_classes(words, table))
    evaluation.subject = fingerprint(model)
    if benchmark is not None:
        benchmark.score(
            evaluation.methods,
            methods,
            model.grid,
            run.text_encoder,
            pop3d,
            options.part,
            lambda done, total: on_progress("asking the benchmark", done, total),
        )
    if options.part.count > 1:
        write_part(run.run_dir, evaluation)
    return evaluation


def _held_out(run: Experiment, protocols: Sequence[RunProtocol]) -> SampleDataset:
    """The held-out keyframes with the labels that protocols need, and no others."""
    points = any(isinstance(protocol, Pop3dProtocol) for protocol in protocols)
    if any(isinstance(protocol, Occ3dProtocol) for protocol in protocols):
        return run.config.data.open("val", labels=points, voxel_labels=True)
    return run.val_dataset if points else run.unlabelled_val()


def fingerprint(model: OccupancyModel) -> str:
    """A short hash of the weights, so that parts of two trainings are never taken for one evaluation."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _benchmark(run: Experiment, options: EvaluateOptions) -> RetrievalBenchmark | None:
    if options.retrieval is None:
        return None
    if run.is_supervised:
        raise ConfigError("a retrieval benchmark must be asked of a model with words; got a supervised run.")
    return RetrievalBenchmark(read_retrieval(options.retrieval, "all"), find_keyframe(run.config.data))


def _methods(
    run: Experiment, model: OccupancyModel, dataset: SampleDataset, words: Vocabulary | None, options: EvaluateOptions
) -> dict[str, Method]:
    table: ClassTable = dataset.classes  # type: ignore[assignment]
    if options.predictions is not None and not options.predictions.is_dir():
        raise DataError(f"predictions must be a folder of maps; got none. Check {options.predictions}")
    with_past = WithPast(dataset, model.image_offsets)
    own = SavedMaps(options.predictions, model.grid, table, words) if options.predictions else None
    methods: dict[str, Method] = {
        "supervised" if run.is_supervised else "student": own or ModelMethod(model, table, words, with_past=with_past)
    }
    protocols = options.protocols or (run.config.protocol,)
    pop3d = [protocol for protocol in protocols if isinstance(protocol, Pop3dProtocol)]
    if words is not None and run.uses_teacher and pop3d:  # of space a teacher knows nothing
        methods["teacher"] = teacher = TeacherMethod(run.teacher, table, words)
        if options.baselines:
            methods["teacher in LiDAR voxels"] = TeacherVoxels(teacher, model.grid, pop3d[0].points)
    if options.baselines:
        methods["blank images"] = ModelMethod(model, table, words, blank=True, with_past=with_past)
        methods["training average"] = average_map(run.config.data.open("train", labels=False), model.grid, table)
    return methods


def keep_scores(run: Experiment, evaluation: Evaluation) -> ScoreTable:
    """The table of an evaluation; that of a whole split is kept in the run folder."""
    scores = evaluation.table()
    if evaluation.is_whole:
        write_atomically(run.run_dir / SCORES_FILE, lambda file: file.write(scores.to_json().encode()))
    return scores


def compare_run(run: Experiment, scores: ScoreTable) -> Comparison:
    """The run beside the published numbers; cells of other recipes are filled from the run folders beside it."""
    return compare([scored_run(run.config, scores), *_neighbours(run.run_dir.resolve())])


def scored_run(config: ExperimentConfig, scores: ScoreTable) -> ScoredRun:
    """What a comparison must know of a run and its table."""
    data, grid = config.data, config.grid.build()
    is_nuscenes = isinstance(data, NuscenesData) and not data.synthetic and grid == POP3D
    if isinstance(data, NuscenesData):
        place = "a synthetic city" if data.synthetic else "nuScenes on another grid"
    else:
        place = f"{data.kind} {data.sequence}"
    return ScoredRun(config.name, place, is_nuscenes, config.teacher.kind if config.teacher else "none", scores)


def _neighbours(run_dir: Path) -> list[ScoredRun]:
    """Scored runs in the same folder; what cannot be read is no run of ours."""
    found = []
    for path in sorted(run_dir.parent.glob(f"*/{SCORES_FILE}")):
        if path.parent == run_dir:
            continue
        with suppress(LexivoxError, OSError, UnicodeDecodeError):
            config = load_config(path.parent / "config.yaml")
            found.append(scored_run(config, ScoreTable.from_json(path.read_text(encoding="utf-8"))))
    return found


def comparison_chart(comparison: Comparison) -> str:
    """All numbers that share our definitions, as SVG."""
    rows = [
        BarRow(
            number.published.table,
            f"{number.published.method}, {number.published.metric}",
            None if number.published.value is None else 100 * number.published.value,
            None if number.ours is None else 100 * number.ours,
            number.status == "comparable",
            "≈" if number.published.is_derived else "",
        )
        for number in comparison.numbers
        if number.published.protocol
    ]
    return bar_chart("POP-3D: published and ours", rows)


def write_comparison(run: Experiment, scores: ScoreTable, comparison: Comparison) -> list[Path]:
    """The tables as Markdown, the comparison as JSON and as a chart, all in the run folder."""
    published = comparison.to_markdown() + "\n" if comparison.has_ours else ""
    contents = {
        TABLES_FILE: published + scores.to_markdown(),
        COMPARISON_FILE: comparison.to_json(),
        CHART_FILE: comparison_chart(comparison),
    }
    return [
        write_atomically(run.run_dir / name, lambda file, text=text: file.write(text.encode()))
        for name, text in contents.items()
    ]


def silent_classes(vocabulary: Vocabulary | None, table: ClassTable) -> tuple[str, ...]:
    """A note about the classes that no phrase asks for, if any."""
    missing = [] if vocabulary is None else [n for n in table.evaluated_names if n not in vocabulary.class_names]
    if not missing:
        return ()
    return (f"No phrase of the vocabulary asks for {', '.join(missing)}: where these are true, every answer is wrong.",)


# ---------------------------------------------------------------------------------------------- keyframes


def find_keyframe(data: DataConfig) -> Callable[[str], Sample | None]:
    """Reads any keyframe of a recording by its token: the benchmark asks beyond the split of a run.

    All versions below a nuScenes root are looked through, because the test keyframes have tables of their own.
    """
    datasets = _all_keyframes(data)
    place = {token: (dataset, index) for dataset in datasets for index, token in enumerate(dataset.tokens)}

    def find(token: str) -> Sample | None:
        if token not in place:
            return None
        dataset, index = place[token]
        return dataset[index]

    return find


def _all_keyframes(data: DataConfig) -> Sequence[SampleDataset]:
    if not isinstance(data, NuscenesData):
        return [open_dataset("pandaset", data.root, [data.sequence])]
    versions = sorted(path.name for path in Path(data.root).glob("v1.0-*") if path.is_dir())
    return [open_dataset("nuscenes", data.root, None, version=version) for version in versions]


# -------------------------------------------------------------------------------------------------- parts


def part_file(run_dir: Path, part: Part) -> Path:
    return run_dir / "parts" / f"part_{part.number}_of_{part.count}.json"


def write_part(run_dir: Path, evaluation: Evaluation) -> Path:
    """Keep the counts of one part beside those of the others."""
    text = evaluation.to_json().encode()
    return write_atomically(part_file(run_dir, evaluation.parts[0]), lambda file: file.write(text))


def merge_parts(run_dir: Path, table: ClassTable) -> Evaluation:
    """All parts of a run folder added up.

    Raises:
        DataError: no part, one is missing or damaged.
        ShapeError: parts of different evaluations, or a keyframe in two of them.
    """
    paths = sorted((run_dir / "parts").glob("part_*_of_*.json"))
    if not paths:
        raise DataError(f"a run must hold parts to merge; got none. Evaluate with --part first: {run_dir / 'parts'}")
    evaluations = []
    for path in paths:
        try:
            evaluations.append(Evaluation.from_json(path.read_text(encoding="utf-8"), table))
        except (DataError, UnicodeDecodeError) as error:
            raise DataError(f"{error} The file: {path}") from None
    counts = sorted({evaluation.parts[0].count for evaluation in evaluations})
    if len(counts) > 1:
        raise DataError(
            f"parts to merge must be shares of one division; got some of {' and some of '.join(map(str, counts))}. "
            f"Remove the older ones: {run_dir / 'parts'}"
        )
    merged = evaluations[0]
    for evaluation in evaluations[1:]:
        merged = merged.merge(evaluation)
    merged.require_whole()
    return merged
