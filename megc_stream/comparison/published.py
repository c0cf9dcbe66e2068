"""Published results, each with its source and with what it may be compared to."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from megc_stream.comparison.corpus import Corpus

__all__ = [
    "PublishedAnswers",
    "PublishedResult",
    "PublishedSet",
    "published_answers",
    "published_beside",
    "published_results",
    "published_sets",
    "published_sources",
    "why_not_comparable",
]

_DATA = Path(__file__).with_name("published.toml")
_SPOTTING_PAPERS = "spotting-papers"
_TRIPLE: tuple[Literal["macro", "micro", "all"], ...] = ("macro", "micro", "all")


class PublishedSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test set as released: its layout ``name``, its size, None where that is not known.

    ``near`` are the layouts beside which its results are shown: its own, and others of the same recording conditions.
    """

    name: str
    title: str
    near: tuple[str, ...]
    recordings: int | None = None
    micro: int | None = None
    macro: int | None = None


class PublishedResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a published table; numbers that were not printed are None.

    ``set`` is the name of a :class:`PublishedSet`, ``source`` that of a source. ``expressions`` says which truths
    count, "" where that is not stated. ``f1_analysis``, ``uf1``, ``uar`` and ``strs`` are by the published evaluator.
    """

    method: str
    set: str
    source: str
    expressions: Literal["micro", "macro", "all", ""]
    tp: int | None = None
    fp: int | None = None
    fn: int | None = None
    precision: float | None = None
    recall: float | None = None
    f1_spotting: float | None = None
    f1_analysis: float | None = None
    uf1: float | None = None
    uar: float | None = None
    strs: float | None = None
    note: str = ""


class PublishedAnswers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a published table of ME-VQA, all test clips together; numbers that were not printed are None.

    ``source`` is the name of a source. Which variants ``bleu`` and ``rouge1`` are is not public.
    """

    method: str
    source: str
    uf1_coarse: float | None = None
    uar_coarse: float | None = None
    uf1_fine: float | None = None
    uar_fine: float | None = None
    bleu: float | None = None
    rouge1: float | None = None
    note: str = ""


class _Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    text: str


class _Spotting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """F1 of spotting of macro-, micro- and all expressions on two sets, as the papers' tables have it."""

    method: str
    cas_me_2: tuple[float, float, float] | None = None
    samm_lv: tuple[float, float, float] | None = None
    note: str = ""


class _Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    set: tuple[PublishedSet, ...]
    source: tuple[_Source, ...]
    result: tuple[PublishedResult, ...]
    spotting: tuple[_Spotting, ...]
    answers: tuple[PublishedAnswers, ...]


@cache
def _published() -> _Published:
    return msgspec.convert(tomllib.loads(_DATA.read_text(encoding="utf-8")), _Published)


def published_sets() -> dict[str, PublishedSet]:
    """Return the test sets of published results by name."""
    return {one.name: one for one in _published().set}


def published_sources() -> dict[str, str]:
    """Return what the sources are, by name."""
    return {source.name: source.text for source in _published().source}


def published_answers() -> tuple[PublishedAnswers, ...]:
    """Return the published results of ME-VQA."""
    return _published().answers


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Return all published results, those with a recognition first; where a source has F1 of several types of
    expressions, there is a result for each."""
    results = list(_published().result)
    for one in _published().spotting:
        for name, values in (("samm-lv", one.samm_lv), ("cas-me-2", one.cas_me_2)):
            if values is None:
                continue
            named = dict(zip(_TRIPLE, values, strict=True))
            for expressions, value in named.items():
                others = ", ".join(f"{kind} {number}" for kind, number in named.items() if kind != expressions)
                note = f"F1 {others}{'; ' if one.note else ''}{one.note}"
                results.append(
                    PublishedResult(
                        method=one.method,
                        set=name,
                        source=_SPOTTING_PAPERS,
                        expressions=expressions,
                        f1_spotting=value,
                        note=note,
                    )
                )
    return tuple(results)


def published_beside(corpus: Corpus) -> list[PublishedResult]:
    """Return the results to show beside those on ``corpus``: first on the same test set, then on related ones.

    Of results that differ in the expressions counted alone, the one that counts what the corpus counts is taken.
    """
    near = [one for one in published_results() if corpus.layout in published_sets()[one.set].near]
    wanted = {(one.method, one.set, one.source) for one in near if one.expressions == corpus.expressions}
    taken = [
        one for one in near if one.expressions == corpus.expressions or (one.method, one.set, one.source) not in wanted
    ]
    return sorted(taken, key=lambda one: one.set != corpus.layout)


def why_not_comparable(result: PublishedResult, corpus: Corpus) -> str:
    """Return why a published result cannot be held against one on ``corpus``; "" where nothing known speaks against it.

    The reasons: another test set, a corpus that is not all of it, other expressions counted.
    """
    whole = published_sets()[result.set]
    if whole.name != corpus.layout:
        return f"another test set than {corpus.name}"
    parts = [
        f"{here} of {known} {what}"
        for what, here, known in (
            ("videos", len(corpus.recordings), whole.recordings),
            ("micro-expressions", corpus.micro, whole.micro),
            ("macro-expressions", corpus.macro, whole.macro),
        )
        if known is not None and here != known
    ]
    reasons = [f"{corpus.name} has here {', '.join(parts)}"] if parts else []
    if not result.expressions:
        reasons.append("the source does not state which expressions count")
    elif result.expressions != corpus.expressions:
        reasons.append(f"the source counts {_KINDS[result.expressions]}, this table {_KINDS[corpus.expressions]}")
    return "; ".join(reasons)


_KINDS = {"micro": "micro-expressions only", "macro": "macro-expressions only", "all": "macro- and micro-expressions"}
