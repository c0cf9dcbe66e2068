"""The published STRS evaluator of the challenge (genbing99/STRS-Metric), with all its quirks.

Reimplemented with numpy alone, to get the numbers of papers and leaderboards; :mod:`megc_stream.evaluation.strs` has
the corrected rules. The quirks:

1. A prediction matches every free truth with IoU >= 0.5, not just one: one prediction can be several TPs.
2. Videos without truth are skipped: predictions there are no FP. Subjects without predictions are skipped: their truths
   are no FN.
3. "UAR analysis" is the mean of the classes' precision.
4. All three classes are averaged, also those that no TP has.
5. If all analysed TPs are of one class and named so, that class counts as wrong, and STRS is undefined.
6. Without TP, STRS is undefined.
7. "FN analysis" counts the same events as "FP analysis".

Predictions are matched in the order of their rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from megc_stream.evaluation.strs import Interval, shared_frames

__all__ = ["PublishedMatches", "match_published"]


class PublishedMatches(msgspec.Struct, frozen=True, kw_only=True):
    """What the published evaluator counts, as indices into predictions and truths.

    ``matches`` holds (prediction, truth) pairs; a prediction may occur several times. ``invented`` and ``missed`` are
    the FPs and FNs that it counts, ``skipped_invented`` and ``skipped_missed`` those that quirk 2 leaves out.
    """

    matches: tuple[tuple[int, int], ...]
    invented: tuple[int, ...]
    missed: tuple[int, ...]
    skipped_invented: tuple[int, ...]
    skipped_missed: tuple[int, ...]


def match_published(pred: Sequence[Interval], truth: Sequence[Interval]) -> PublishedMatches:
    """Match predictions, in the order of their rows, with truths as the published evaluator does."""
    by_video: dict[tuple[str, str], list[int]] = {}
    for j, true in enumerate(truth):
        by_video.setdefault((true.subject, true.video), []).append(j)
    subjects = {interval.subject for interval in pred}
    taken: set[int] = set()
    matches: list[tuple[int, int]] = []
    invented, skipped_invented = [], []
    for i, found in enumerate(pred):
        candidates = by_video.get((found.subject, found.video))
        if candidates is None:
            skipped_invented.append(i)
            continue
        new = [j for j in candidates if j not in taken and _is_match(found, truth[j])]
        taken.update(new)
        matches += [(i, j) for j in new]
        if not new:
            invented.append(i)
    left = [j for j in range(len(truth)) if j not in taken]
    return PublishedMatches(
        matches=tuple(matches),
        invented=tuple(invented),
        missed=tuple(j for j in left if truth[j].subject in subjects),
        skipped_invented=tuple(skipped_invented),
        skipped_missed=tuple(j for j in left if truth[j].subject not in subjects),
    )


def _is_match(a: Interval, b: Interval) -> bool:
    shared, union = shared_frames(a, b)
    return shared / union >= 0.5
