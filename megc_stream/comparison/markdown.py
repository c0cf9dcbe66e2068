"""The table as Markdown: for every data set ours, then the published results; below it what they rest on."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

from megc_stream.comparison.table import Beside, Row, Table
from megc_stream.evaluation.bootstrap import Confidence

__all__ = ["format_markdown", "grid"]

_HEADER = (
    "tested on",
    "spotting",
    "model",
    "trained on",
    "TP / FP / FN",
    "precision",
    "recall",
    "F1 spotting [95 %]",
    "F1 analysis",
    "UF1",
    "UAR",
    "STRS corrected [95 %]",
    "STRS compat [95 %]",
    "AP",
    "ceiling",
    "comparable",
    "remark",
)
_LEFT = (0, 1, 2, 3, 15, 16)
_LETTERS = string.ascii_lowercase
_NONE = "-"
_SPOTTING = {"causal": "causal", "video": "whole video"}


def format_markdown(table: Table) -> str:
    """Return ``table.md``."""
    sources = {name: number for number, name in enumerate(table.sources, start=1)}
    why = dict.fromkeys(one.not_comparable for one in table.published if one.not_comparable)
    letters = {reason: _LETTERS[index % len(_LETTERS)] for index, reason in enumerate(why)}
    blocks = [
        "# Spot-then-recognise: spotters and models compared",
        _summary(table),
        grid(_HEADER, _cells(table, sources, letters), _LEFT),
    ]
    if letters:
        lines = [f"- ({letter}) {reason}" for reason, letter in letters.items()]
        blocks.append("Not comparable with ours, because:\n\n" + "\n".join(lines))
    blocks.append(_reading(table))
    if sources:
        lines = [f"{number}. {table.sources[name]}" for name, number in sources.items()]
        blocks += ["## Sources of the published numbers", "\n".join(lines)]
    blocks += [
        "## Data sets",
        _data_sets(table),
        "## Models",
        _models(table),
        "## How this table came about",
        _made(table),
    ]
    return "\n\n".join(blocks) + "\n"


def _summary(table: Table) -> str:
    counted = "micro-expressions" if table.expressions == "micro" else "micro- and macro-expressions"
    parts = [f"{one.name}: {one.truths} {counted} of {one.annotated_subjects} subjects" for one in table.data_sets]
    return (
        f"Truth: {'; '.join(parts)}. Rows in *italics* are published results, not made by this command; [n] is their "
        "source, and the column `comparable` says whether they may be held against ours."
    )


def _cells(table: Table, sources: Mapping[str, int], letters: Mapping[str, str]) -> Iterable[Sequence[str]]:
    names = [one.name for one in table.data_sets]
    for name in names:
        yield from (_ours(row) for row in table.rows if row.tested_on == name)
        yield from (_published(one, sources, letters) for one in table.published if one.beside == name)
    yield from (_ours(row) for row in table.rows if row.tested_on not in names)


def _ours(row: Row) -> list[str]:
    score, compat = row.corrected, row.compat
    remarks = []
    if row.seen:
        remarks.append("trained on the tested persons: no test on new ones")
    if row.failed:
        remarks.append(f"{len(row.failed)} videos failed, their expressions count as missed")
    if row.dropped:
        remarks.append(f"{row.dropped} detections named others left out")
    return [
        f"**{row.tested_on}**",
        _SPOTTING.get(row.spotting, row.spotting),
        row.model,
        row.trained_on,
        f"{score.tp_spotting} / {score.fp_spotting} / {score.fn_spotting}",
        _number(score.precision_spotting),
        _number(score.recall_spotting),
        _with_interval(score.f1_spotting, row.confidence, "F1-score spotting"),
        _number(score.f1_analysis),
        _number(score.uf1_analysis),
        _number(score.uar_analysis),
        _with_interval(score.strs, row.confidence, "STRS"),
        _with_interval(compat.strs, row.confidence_compat, "STRS"),
        _number(row.average_precision.mean),
        _number(row.length_ceiling),
        "",
        "; ".join(remarks),
    ]


def _published(one: Beside, sources: Mapping[str, int], letters: Mapping[str, str]) -> list[str]:
    result = one.result
    counts = (result.tp, result.fp, result.fn)
    return [
        f"*{one.test_set}*",
        "*published*",
        f"*{result.method}* [{sources[result.source]}]",
        "",
        _NONE if None in counts else " / ".join(map(str, counts)),
        *(
            _printed(value)
            for value in (
                result.precision,
                result.recall,
                result.f1_spotting,
                result.f1_analysis,
                result.uf1,
                result.uar,
                None,
                result.strs,
                None,
                None,
            )
        ),
        f"no ({letters[one.not_comparable]})" if one.not_comparable else "yes",
        result.note,
    ]


def _reading(table: Table) -> str:
    lines = [
        "- TP, FP, FN, precision, recall, F1, UF1 and UAR are by the corrected rules: one detection matches one "
        "expression, at IoU >= 0.5; a detection in a video without expressions is an FP. STRS = F1 spotting x F1 "
        "analysis. `STRS compat` is by the challenge's published evaluator, quirks included, and - where that is "
        "undefined; published STRS, F1 analysis, UF1 and UAR are by that evaluator, whose UAR is a mean precision.",
        f"- [95 %]: percentiles of {table.resamples} bootstrap resamples of subjects, seed {table.seed}; none with "
        "fewer than two subjects.",
        "- AP: average precision, mean over IoU 0.5, 0.55, ..., 0.95, detections ranked by their score.",
        "- ceiling: the best recall within reach of intervals of 2k' + 1 frames, which whole-video spotting gives; "
        "causal spotting refines the borders and may exceed it.",
        "- comparable: yes means the same test set, as far as its size tells, and the same expressions counted; which "
        "persons a published model was trained on, and how its faces were aligned, is for its source to say.",
        "- F1 analysis, UF1 and UAR rest on the TPs alone: with few TPs they say little.",
    ]
    if table.expressions == "micro":
        lines.append(
            "- Only micro-expressions count as truth; a macro-expression that was detected is an FP. "
            "`--expressions all` counts both."
        )
    return "## How to read it\n\n" + "\n".join(lines)


def _data_sets(table: Table) -> str:
    header = ("name", "data set", "layout", "subjects", "videos", "counted", "by class", "micro", "macro", "root")
    rows = [
        (
            one.name,
            one.title,
            one.layout,
            f"{one.subjects} ({one.annotated_subjects} annotated)",
            str(one.videos),
            str(one.truths),
            ", ".join(f"{name} {count}" for name, count in one.classes.items()),
            str(one.micro),
            str(one.macro),
            f"`{one.root}`",
        )
        for one in table.data_sets
    ]
    text = grid(header, rows, (0, 1, 2, 3, 6, 9))
    for one in table.data_sets:
        if one.elsewhere:
            text += f"\n\n{one.name}: {one.elsewhere} annotated expressions are left out, their recordings are absent."
    return text


def _models(table: Table) -> str:
    header = ("model", "trained on", "classes", "k", "k'", "SHA-256")
    rows = [
        (
            model.name,
            model.trained_on,
            ", ".join(model.classes),
            f"{model.k_s:g} s",
            f"{model.k_prime_s:g} s",
            f"`{model.sha256}`",
        )
        for model in table.models
    ]
    return grid(header, rows, (0, 1, 2, 5))


def _made(table: Table) -> str:
    where = table.environment
    packages = ", ".join(f"{name} {version}" for name, version in where.packages.items())
    lines = [f"    {table.command}", ""]
    lines.append(
        f"megc-stream {where.megc_stream}, Python {where.python}, {where.platform} ({where.machine}); {packages}."
    )
    lines.append("")
    lines.append(
        "The command stands without the options that have no bearing on the numbers (--jobs, --cache, --json, "
        "--overwrite). All settings are in `table.json`, the times that it took in `timings.json`, and the detections "
        "of every recording under `runs/`."
    )
    if table.training is not None:
        parts = {key: value for key, value in table.training.items() if key != "settings"} | table.training["settings"]
        said = "; ".join(
            f"{key} {', '.join(map(str, value)) or 'none' if isinstance(value, list) else value}"
            for key, value in parts.items()
        )
        lines += ["", f"Training: {said}."]
    failed = {name: row for row in table.rows for name in row.failed}
    if failed:
        lines += ["", "Recordings that failed: " + ", ".join(f"`{name}`" for name in sorted(failed)) + "."]
    return "\n".join(lines)


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int]) -> str:
    """Return a Markdown table whose columns line up in the text as well."""
    cells = [tuple(header), *(tuple(_escaped(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join(padded) + " |"

    rule = (("-" * (width + 2)) if column in left else "-" * (width + 1) + ":" for column, width in enumerate(widths))
    return "\n".join([line(cells[0]), "|" + "|".join(rule) + "|", *(line(row) for row in cells[1:])])


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _printed(value: float | None) -> str:
    """Return a published value as it was printed."""
    return _NONE if value is None else str(value)


def _with_interval(value: float | None, confidence: Confidence, name: str) -> str:
    interval = confidence.intervals.get(name)
    if value is None or interval is None:
        return _number(value)
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
