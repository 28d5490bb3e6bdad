"""Do images, calibration and sweep belong together? If not: which fault, undone, makes them fit?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from lexivox.data.doctor.edges import Agreement, EdgeView, agreement
from lexivox.data.doctor.report import Finding, Findings
from lexivox.data.doctor.suspects import Suspect, gross, sizes, slight_sizes, swapped, turns
from lexivox.data.doctor.timing import MIN_SPEED_M_S, Motion, delays, top_speed_m_s, travels

Views = Sequence[EdgeView]

MIN_EDGES = 60
"""Fewer in the images of a camera, and nothing is said about it."""

FITS, FITS_ERRORS = 0.2, 3.0
"""From this agreement on, if it is that many standard errors above chance, no gross fault is looked for."""

MIN_AGREEMENT, MIN_ERRORS, MIN_RATIO, MIN_GAIN_ERRORS = 0.15, 3.5, 1.4, 2.5
"""A suspect is believed when without it views agree so well, by so many standard errors above chance, and better
than they do as they are: by this ratio and by so many standard errors of the difference."""

MIN_STRIPS = 5.0
"""Agreement on edges in fewer of the sixteen strips of the images is chance."""

TURNS_DEG = (-3.0, -2.5, -2.0, -1.5, -1.25, -1.0, -0.75, -0.5, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
SEEN_TRAVEL_M = 0.4
"""A delay shows when the car moves about so far meanwhile."""

CHANCE = 0.06
"""Agreement below which views that hold many edges do not fit at all."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """A suspect that was believed."""

    suspect: Suspect
    before: Agreement
    after: Agreement


def check_projection(views: Views, motion: Mapping[str, Motion]) -> Findings:
    """What is wrong with the calibration and the images of some keyframes, all cameras together, then each.

    Args:
        views: of every camera of every keyframe.
        motion: of the car around the keyframes where neighbours tell it, by token.
    """
    given = agreement(views)
    if given.num_edges < MIN_EDGES:
        if views:
            text = f"only {given.num_edges} outlines of the sweep lie in images, too few to check the calibration"
            yield Finding("unsure", text)
        return
    culprit = investigate(views, motion)
    if culprit is not None:
        yield _error("all cameras", culprit)
        yield Finding("unsure", "single cameras were not looked at: mend this first and run again")
        return
    alone = list(_each_camera(views, motion))
    if all(finding.fault is None for finding in alone):
        yield _overall(given)
    yield from alone
    yield from _when(motion)


def investigate(views: Views, motion: Mapping[str, Motion], others: Iterable[Suspect] = ()) -> Culprit | None:
    """The fault that, undone, lets views agree clearly better; ``None`` where none does."""
    given = agreement(views)
    suspects = [turns(TURNS_DEG), slight_sizes(), _elsewhen(views, motion)]
    if not fits(given):
        suspects += [gross(), sizes(views[0]), others]
    best = _best(views, chain.from_iterable(suspects))
    if best is None:
        return None
    best = _best(views, chain([best], best.finer())) or best
    after = agreement([best.undo(view) for view in views])
    return Culprit(best, given, after) if is_better(after, given) else None


def fits(found: Agreement) -> bool:
    return found.spread >= MIN_STRIPS and found.mean >= max(FITS, FITS_ERRORS * found.error)


def is_better(after: Agreement, before: Agreement) -> bool:
    """Well spread, clearly above chance, and clearly better than before."""
    if after.num_edges < MIN_EDGES or after.spread < MIN_STRIPS:
        return False
    if after.mean < max(MIN_AGREEMENT, MIN_ERRORS * after.error):
        return False
    if before.spread < MIN_STRIPS:
        return True
    return after.mean >= MIN_RATIO * before.mean and after.gain_over(before)[1] >= MIN_GAIN_ERRORS


def _best(views: Views, suspects: Iterable[Suspect]) -> Suspect | None:
    """The one whose agreement is highest even if it is two standard errors too high."""
    best, best_score = None, 0.0
    for suspect in suspects:
        found = agreement([suspect.undo(view) for view in views])
        if found.num_edges >= MIN_EDGES and found.spread >= MIN_STRIPS:
            score = suspect.credit * (found.mean - 2 * found.error)
            if score > best_score:
                best, best_score = suspect, score
    return best


def _elsewhen(views: Views, motion: Mapping[str, Motion]) -> Iterable[Suspect]:
    """Delays where neighbours tell the motion; stretches of road where nobody knows it."""
    return delays(motion) if any(view.token in motion for view in views) else (travels(views),)


# -------------------------------------------------------------------------------------------------- findings


def _overall(given: Agreement) -> Finding:
    text = f"{given.num_edges} outlines of the sweep lie on image edges, agreement {given.mean:.2f} (chance is 0)"
    if fits(given):
        return Finding("ok", text)
    if given.spread >= MIN_STRIPS and given.mean > max(CHANCE, FITS_ERRORS * given.error):
        return Finding("unsure", f"{text}: too weak to say that all is right; look at the pictures")
    mend = "look at the pictures: another recording's images, or a calibration of another car?"
    return Finding("warning", f"{text}; no fault that is known explains it: {mend}", "misfit")


def _each_camera(views: Views, motion: Mapping[str, Motion]) -> Findings:
    """Faults of single cameras; those of one fault and mend are told together."""
    names = dict.fromkeys(view.camera for view in views)
    if len(names) < 2:
        return
    guilty: dict[tuple[str, str], list[tuple[str, Culprit]]] = {}
    weak = []
    for name in names:
        own = [view for view in views if view.camera == name]
        culprit = investigate(own, motion, _exchanges(own, views))
        if culprit is not None:
            guilty.setdefault((culprit.suspect.fault, culprit.suspect.mend), []).append((name, culprit))
        elif not fits(agreement(own)):
            weak.append(name)
    for found in guilty.values():
        yield _error(", ".join(name for name, _ in found), found[0][1])
    if weak:
        yield Finding("unsure", f"{', '.join(weak)}: too few outlines in these keyframes to judge each camera alone")


def _exchanges(own: Views, views: Views) -> Iterator[Suspect]:
    """The images of each other camera of the same keyframe in place of its own."""
    for name in dict.fromkeys(view.camera for view in views):
        if name != own[0].camera:
            other = {view.token: view for view in views if view.camera == name}
            mend = f"take the images that lie under {name}"
            yield Suspect("cameras-swapped", mend, lambda view, o=other: swapped(view, o.get(view.token, view)))


def _when(motion: Mapping[str, Motion]) -> Findings:
    """What can be told about time at all."""
    speed = top_speed_m_s(motion)
    if not motion:
        text = "how the car moves is unknown without keyframes closer than 1.5 s, so only metres of delay can be seen"
        yield Finding("unsure", text)
    elif speed < MIN_SPEED_M_S:
        text = f"whether images and sweep are of one moment cannot be told: the car stands still ({speed:.2f} m/s)"
        yield Finding("unsure", text)
    else:
        text = (
            f"at {speed:.1f} m/s delays between images and sweep show from about {SEEN_TRAVEL_M / speed * 1e3:.0f} ms"
        )
        yield Finding("ok", text)


def _error(who: str, culprit: Culprit) -> Finding:
    before, after, suspect = culprit.before, culprit.after, culprit.suspect
    text = (
        f"{who}: outlines of the sweep miss the image edges (agreement {before.mean:.2f}; 0 is chance) but would lie "
        f"on them ({after.mean:.2f}) if you {suspect.mend}"
    )
    return Finding("error", text, suspect.fault)
