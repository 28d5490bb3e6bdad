"""The stages of an experiment, each a function of a config and a run folder: targets, train, load, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lexivox.config import ExperimentConfig, build_model, semantic_config
from lexivox.config_text import load_config, same_run
from lexivox.data.cache import FeatureCache
from lexivox.data.classes import ClassTable
from lexivox.data.clips import WithPast
from lexivox.data.subset import token_record
from lexivox.data.types import Sample, SampleDataset
from lexivox.errors import ConfigError, DataError
from lexivox.evaluate.pop3d import QuerySet
from lexivox.evaluate.report import ScoreTable
from lexivox.files import write_atomically
from lexivox.grounding.absent import ABSENT_THINGS
from lexivox.grounding.calibration import Calibration, Calibrator
from lexivox.model import OccupancyModel, set_checkpointing
from lexivox.run_folder import CONFIG_FILE, TEXT_FILE, TEXT_TENSORS, load, run_config
from lexivox.scoring import EvaluateOptions, count_run, keep_scores
from lexivox.supervision.feature_store import FeatureStore
from lexivox.supervision.found_boxes import FoundBoxes
from lexivox.supervision.prepared import PreparedSamples
from lexivox.supervision.storage import Storage
from lexivox.supervision.targets import TeacherReading
from lexivox.teachers.base import ImageTeacher, TextEncoder, check_same_space
from lexivox.teachers.text import text_encoder_spec
from lexivox.teachers.vocabulary import Vocabulary, embed, vocabulary
from lexivox.train.checkpoint import save_weights
from lexivox.train.data import TrainingSteps
from lexivox.train.engine import Engine, open_engine
from lexivox.train.loop import WEIGHTS_FILE, OnStep, Trainer
from lexivox.weights.checkpoint import read_checkpoint
from lexivox.weights.published import ImportReport, fill_published

OnProgress = Callable[[str, int, int], None]
"""Called with the name of the work, how much of it is done, and how much there is."""

TOKENS_FILE = "train_tokens.json"
"""Which keyframes a run was trained on, with a hash."""
CACHE_DIR = "cache"
CALIBRATION_KEYFRAMES = 32


def _quiet(work: str, done: int, total: int) -> None:
    pass


@dataclass
class Experiment:
    """A config bound to a run folder. Parts are opened when they are first needed, and once.

    ``is_sharded``: processes that train together hold a share of the weights each instead of all.
    """

    config: ExperimentConfig
    run_dir: Path
    cache_dir: Path | None = None
    is_sharded: bool = False

    @cached_property
    def _teacher_pair(self) -> tuple[ImageTeacher, TextEncoder]:
        if self.config.teacher is None:
            raise ConfigError("a run must have a teacher to know words or features; got none. Set teacher.")
        teacher, text_encoder = self.config.teacher.build()
        check_same_space(teacher, text_encoder)
        return teacher, text_encoder

    @property
    def teacher(self) -> ImageTeacher:
        return self._teacher_pair[0]

    @property
    def text_encoder(self) -> TextEncoder:
        return self._teacher_pair[1]

    @cached_property
    def engine(self) -> Engine:
        """This process alone, or its place among those it was started with."""
        return open_engine(self.is_sharded)

    @property
    def uses_teacher(self) -> bool:
        return self.config.language is not None

    @property
    def is_supervised(self) -> bool:
        return self.config.heads.semantic is not None

    @cached_property
    def train_samples(self) -> PreparedSamples:
        """Training keyframes with their targets. Labels and boxes are opened only where something learns from them."""
        signals = self.config.supervision
        dataset = self.config.data.open(
            "train",
            labels=any(s.uses_point_labels for s in signals),
            boxes=any(s.uses_boxes for s in signals),
            voxel_labels=any(s.uses_voxel_labels for s in signals),
        )
        fit, language = self.config.image_fit, self.config.language
        if language is None:
            return PreparedSamples(dataset, fit, None)
        features = FeatureStore(
            dataset,
            self.teacher,
            FeatureCache(self.cache_folder),
            reading=TeacherReading(language.views, language.pixels, language.unit),
            max_points=language.max_points,
            storage=Storage(language.storage, language.storage_rank, language.storage_pool),
        )
        return PreparedSamples(dataset, fit, features)

    @property
    def cache_folder(self) -> Path:
        return self.cache_dir or self.run_dir / CACHE_DIR

    @cached_property
    def found_boxes(self) -> FoundBoxes | None:
        """Gives clips boxes of what moves in their sweeps, if a signal learns from these."""
        if not self.config.finds_boxes:
            return None
        return FoundBoxes(self.config.grid.build(), cache=FeatureCache(self.cache_folder, is_exact=True))

    @cached_property
    def val_dataset(self) -> SampleDataset:
        return self.config.data.open("val", labels=True)

    def unlabelled_val(self) -> SampleDataset:
        """The held-out keyframes as a recording without labels, which is all that predicting needs."""
        return self.config.data.open("val", labels=False)

    def shown_val(self) -> SampleDataset:
        """The held-out keyframes with labels where the recording has them, for looking at."""
        try:
            labelled = self.val_dataset
            _ = labelled[0] if len(labelled) else None
        except DataError:
            return self.unlabelled_val()
        return labelled

    # ------------------------------------------------------------------------------------------------ stages

    def make_targets(self, on_progress: OnProgress = _quiet) -> int:
        """Fill the cache for the training keyframes: the teacher's features, boxes of what moves; returns their number.

        Several processes share the work.
        """
        samples, engine = self.train_samples, self.engine
        if engine.processes > 1:
            for index in range(engine.rank, len(samples), engine.processes):
                _ = samples[index]
                on_progress("making targets", index + 1, len(samples))
            engine.wait()
        samples.prepare(self.config.train.balance_power, lambda done, total: on_progress("making targets", done, total))
        if self.found_boxes is not None:
            self.found_boxes.find_all(
                samples.dataset,
                self.config.horizon.offsets,
                lambda done, total: on_progress("finding what moves", done, total),
                first=engine.rank,
                step=engine.processes,
            )
            engine.wait()
        return len(samples)

    def train(self, on_step: OnStep = lambda step, steps, terms: None) -> OccupancyModel:
        """Train, or go on where an interrupted run stopped, and write everything that ``load`` needs.

        Raises:
            ConfigError: the folder holds a run of another config, or words mean classes that do not exist.
            WeightsError: those that the image encoder starts from are missing or do not fit.
        """
        self._check_words()
        self._claim_folder()
        config = self.config
        text_encoder = self.text_encoder if config.heads.language else None
        # Before the targets, which may take days: weights that are missing are told at once.
        model = build_model(config, self.teacher.dim if text_encoder else 0, text_encoder)
        samples = self.train_samples
        if not samples.is_prepared:
            self.make_targets()
        steps = TrainingSteps(
            samples,
            config.grid.build(),
            [supervision.build() for supervision in config.supervision],
            config.augment.build(),
            config.train.batch_size,
            config.train.points_per_sample,
            config.train.seed,
            config.train.steps,
            config.train.micro_batch,
            config.horizon,
            config.image_fit,
            self.found_boxes,
        )
        set_checkpointing(model, config.train.checkpointing)
        Trainer(model, steps, config.train.options(), self.run_dir, self.engine).run(on_step)
        return load(self.run_dir)

    def import_weights(self, file: Path, text_encoder: TextEncoder | None = None) -> ImportReport:
        """Make the folder a run of released weights, which ``load`` opens; needs no recording.

        Args:
            file: a checkpoint of POP-3D or TPVFormer.
            text_encoder: the words of the language head; the config's teacher's if None.

        Raises:
            WeightsError: the file does not fit the config's model; nothing was written.
        """
        found = read_checkpoint(file)
        words = (text_encoder or self.text_encoder) if self.config.heads.language else None
        model = build_model(self.config, words.dim if words else 0, words, fetch_weights=False)
        report = fill_published(model, found, file)
        self._describe(words)
        save_weights(self.run_dir / WEIGHTS_FILE, model.state_dict())
        return report

    def _check_words(self) -> None:
        """Before hours are spent: do the words and the labels to learn fit the classes of the data set?"""
        dataset = self.train_samples.dataset
        table: ClassTable = dataset.classes  # type: ignore[assignment]
        for name in self.config.vocabulary:
            table.index_of(name)
        self.query_set(dataset)
        learnt = semantic_config(self.config)
        if learnt and (learnt.num_classes, learnt.free_label) != (table.num_classes, table.free):
            raise ConfigError(
                f"semantic supervision must have the classes of {table.name}, {table.num_classes} with {table.free} "
                f"as free; got {learnt.num_classes} with {learnt.free_label}. Change num_classes and free_label."
            )

    def _claim_folder(self) -> None:
        """Write what the run is first, so that a folder explains itself even after a kill."""
        self._describe(self.text_encoder if self.config.heads.language else None)
        tokens = json.dumps(token_record(self.train_samples.dataset.tokens), indent=1)
        write_atomically(self.run_dir / TOKENS_FILE, lambda file: file.write(tokens.encode()))

    def _describe(self, text_encoder: TextEncoder | None) -> None:
        """Config and words: with the weights all that ``load`` needs."""
        path = self.run_dir / CONFIG_FILE
        if path.exists() and same_run(load_config(path)) != same_run(self.config):
            raise ConfigError(
                f"a run folder must keep one config; got another one than it holds. Choose a new folder: {path}."
            )
        self.engine.wait()  # all have looked before one writes
        if self.engine.rank > 0:
            return
        write_atomically(path, lambda file: file.write(self.config.to_yaml().encode()))
        if text_encoder:
            spec, tensors = text_encoder_spec(text_encoder)
            write_atomically(self.run_dir / TEXT_FILE, lambda file: file.write(json.dumps(spec).encode()))
            save_weights(self.run_dir / TEXT_TENSORS, tensors)

    def class_vocabulary(self) -> Vocabulary:
        return embed(vocabulary(self.config.vocabulary), self.text_encoder)

    def evaluate(
        self,
        model: OccupancyModel,
        *,
        baselines: bool = False,
        options: EvaluateOptions | None = None,
        on_progress: OnProgress = _quiet,
    ) -> ScoreTable:
        """Score the model on the held-out keyframes beside its teacher, and write the scores.

        Args:
            baselines: short for the option of this name.
            options: what to score, and how.
        """
        return keep_scores(self, count_run(self, model, options or EvaluateOptions(baselines), on_progress))

    def calibrate(
        self,
        model: OccupancyModel,
        *,
        keyframes: int = CALIBRATION_KEYFRAMES,
        absent: Sequence[str] = ABSENT_THINGS,
        on_progress: OnProgress = _quiet,
    ) -> Calibration:
        """Measure on held-out keyframes, without labels, how high absent things score; kept in the run folder.

        Args:
            keyframes: at most this many, evenly over the held-out drives.
            absent: things that these recordings surely do not hold.

        Raises:
            ConfigError: a supervised run, which has no words.
        """
        if model.text_encoder is None:
            raise ConfigError("a run must have a language head to be calibrated; got one without words.")
        words = embed(vocabulary(self.config.vocabulary), model.text_encoder) if self.config.vocabulary else None
        calibrator, dataset = Calibrator(model.text_encoder, words, absent), self.unlabelled_val()
        chosen = torch.linspace(0, len(dataset) - 1, min(keyframes, len(dataset))).round().long().tolist()
        for done, index in enumerate(chosen):
            prediction = model.predict(WithPast(dataset, model.image_offsets)(dataset[index]))
            calibrator.update(prediction.read_occupied("language"), prediction.grid.voxel_m3)
            on_progress("calibrating", done + 1, len(chosen))
        model.calibration = calibrator.result()
        model.calibration.save(self.run_dir)
        return model.calibration

    def query_set(self, dataset: SampleDataset) -> QuerySet | None:
        """The config's free queries over the finest labels that the data set has."""
        if not self.config.queries:
            return None
        fine = self.config.data.fine_labels(dataset)
        return QuerySet(self.config.queries, *(fine or (dataset.classes.names, _point_labels)))  # type: ignore[attr-defined]


def _point_labels(index: int, sample: Sample) -> Tensor:
    if sample.point_labels is None:
        raise DataError(f"samples must have point labels to score queries; got none in {sample.token}.")
    return sample.point_labels.label


def open_run(run_dir: str | Path, cache_dir: Path | None = None) -> Experiment:
    """The experiment that a run folder holds.

    Raises:
        DataError: no run there.
    """
    run_dir = Path(run_dir)
    return Experiment(run_config(run_dir), run_dir, cache_dir)
