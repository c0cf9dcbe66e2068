"""A data set as a table needs it: recordings, and the truths that count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import msgspec

from megc_stream.datasets import LAYOUTS, read_dataset
from megc_stream.errors import DataError
from megc_stream.evaluation import Interval, IntervalRow

__all__ = ["Corpus", "Expressions", "read_corpus"]

Expressions = Literal["micro", "all"]


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """Recordings and truths of one data set.

    Parameters
    ----------
    name
        As the table calls it; unique within a table.
    title, layout, root
        What it is, and where it lies.
    expressions
        Which truths count.
    recordings
        Frame rate of each recording by (subject, video).
    truths
        Annotated expressions that count and lie in a recording, by subject, video and onset; emotions are the coarse
        ones.
    micro, macro
        Number of annotated expressions of each type that lie in a recording, whether they count or not.
    elsewhere
        Number of annotated expressions whose recording is absent.
    """

    name: str
    title: str
    layout: str
    root: Path
    expressions: Expressions
    recordings: dict[tuple[str, str], float]
    truths: tuple[IntervalRow, ...]
    micro: int
    macro: int
    elsewhere: int

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects with a recording, in order."""
        return tuple(sorted({subject for subject, _ in self.recordings}))

    @property
    def classes(self) -> dict[str, int]:
        """Number of truths of each coarse emotion; "none given" where there is none."""
        return dict(sorted(Counter(row.interval.emotion or "none given" for row in self.truths).items()))


def read_corpus(layout: str, root: Path, *, name: str, expressions: Expressions = "micro") -> Corpus:
    """Read a data set and its annotations.

    Raises
    ------
    UsageError
        The layout is unknown.
    DataError
        There is no recording, or no annotated expression of the wanted type in any of them.
    """
    data = read_dataset(layout, root)
    title = LAYOUTS[layout].title
    recordings = {(one.subject, one.video): one.fps for one in data.recordings}
    if not recordings:
        raise DataError(f"{root}: has no recording of {title}; 'megc-stream datasets check' says what is there")
    placed = [one for one in data.annotations if (one.subject, one.video) in recordings]
    truths = [
        IntervalRow(
            interval=Interval(one.subject, one.video, one.onset, one.offset, one.coarse),
            row=one.row,
            apex=one.apex,
            fps=recordings[one.subject, one.video],
            type=one.type,
        )
        for one in placed
        if expressions == "all" or one.type == "micro"
    ]
    if not truths:
        got = f"{len(placed)} annotated macro-expressions" if placed else "no annotated expression in a recording"
        hint = "; --expressions all counts them" if placed else ""
        if LAYOUTS[layout].events is None:
            got = "none: the annotations of this set are not public"
        raise DataError(f"{root}: no annotated subject in {title}: got {got}; expected micro-expressions{hint}")
    return Corpus(
        name=name,
        title=title,
        layout=layout,
        root=root,
        expressions=expressions,
        recordings=recordings,
        truths=tuple(sorted(truths, key=lambda row: row.interval)),
        micro=sum(one.type == "micro" for one in placed),
        macro=sum(one.type == "macro" for one in placed),
        elsewhere=len(data.annotations) - len(placed),
    )
