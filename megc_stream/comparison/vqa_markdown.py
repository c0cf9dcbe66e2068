"""The table of answers as Markdown: ME-VQA and ME-LVQA apart, published results below ours."""

from __future__ import annotations

from collections.abc import Mapping

from megc_stream.comparison.markdown import grid
from megc_stream.comparison.published import PublishedAnswers
from megc_stream.comparison.vqa_table import PRIOR, VqaRow, VqaTable

__all__ = ["format_vqa_markdown"]

_NONE = "-"
_SHORT = (
    *("answerer", "shown", "model", "tested on", "UF1 coarse", "UAR coarse", "UF1 fine", "UAR fine"),
    *("BLEU corpus / sentence", "ROUGE-1 recall / F1", "no class", "replaced", "comparable", "remark"),
)
_LONG = (
    *("answerer", "shown", "model", "tested on", "MAE counts", "RMSE counts", "F1 units", "Jaccard units"),
    *("UF1 types", "UAR types", "unreadable", "replaced", "remark"),
)


def format_vqa_markdown(table: VqaTable) -> str:
    """Return ``table.md``."""
    sources = {name: number for number, name in enumerate(table.sources, start=1)}
    clips = ", ".join(f"{name} {count}" for name, count in table.clips.items())
    blocks = [
        "# Questions about micro-expressions: answerers compared",
        f"Truth: {table.short_questions + table.long_questions} questions about {sum(table.clips.values())} clips "
        f"({clips}). With few clips one of them moves UF1 by several points. Rows in *italics* are published results, "
        "not made by this command; [n] is their source.",
    ]
    if table.short_questions:
        rows = [_short(row) for row in table.rows]
        rows += [_published(one, sources, table.not_comparable) for one in table.published]
        blocks += ["## ME-VQA: short clips", grid(_SHORT, rows, (0, 1, 2, 3, 12, 13))]
    if table.long_questions:
        blocks += [
            "## ME-LVQA: long videos",
            grid(_LONG, [_long(row) for row in table.rows], (0, 1, 2, 3, 12)),
            "No published numbers of this task were found.",
        ]
    blocks += ["## How to read it", _reading(table)]
    if sources:
        lines = [f"{number}. {table.sources[name]}" for name, number in sources.items()]
        blocks += ["## Sources of the published numbers", "\n".join(lines)]
    blocks += ["## How this table came about", _made(table)]
    return "\n\n".join(blocks) + "\n"


def _short(row: VqaRow) -> list[str]:
    score = row.short
    if score is None:
        return [*_names(row), *[_NONE] * 7, "", "", _remark(row)]
    return [
        *_names(row),
        _number(score.uf1_coarse),
        _number(score.uar_coarse),
        _number(score.uf1_fine),
        _number(score.uar_fine),
        _pair(score.bleu_corpus, score.bleu_sentence),
        _pair(score.rouge1_recall, score.rouge1_f1),
        str(score.unparsed),
        _count(row.replaced),
        "",
        _remark(row),
    ]


def _long(row: VqaRow) -> list[str]:
    score = row.long
    if score is None:
        return [*_names(row), *[_NONE] * 7, "", _remark(row)]
    return [
        *_names(row),
        _number(score.mae_counts),
        _number(score.rmse_counts),
        _number(score.f1_units),
        _number(score.jaccard_units),
        _number(score.uf1_types),
        _number(score.uar_types),
        str(score.unparsed),
        _count(row.replaced),
        _remark(row),
    ]


def _published(one: PublishedAnswers, sources: Mapping[str, int], not_comparable: str) -> list[str]:
    numbers = (one.uf1_coarse, one.uar_coarse, one.uf1_fine, one.uar_fine, one.bleu, one.rouge1)
    return [
        "*published*",
        "",
        f"*{one.method}* [{sources[one.source]}]",
        "*MEGC2025 test*",
        *(_NONE if value is None else str(value) for value in numbers),
        "",
        "",
        "no" if not_comparable else "yes",
        one.note,
    ]


def _names(row: VqaRow) -> list[str]:
    return [f"**{row.answerer}**", row.shown or _NONE, row.model or _NONE, row.tested_on]


def _remark(row: VqaRow) -> str:
    remarks = []
    if row.reason:
        remarks.append(f"not measured: {row.reason}")
    elif row.short is None and row.long is None:
        remarks.append("no such question")
    if row.seen:
        remarks.append("trained on tested persons: no test on new ones")
    if row.repaired:
        remarks.append(f"{row.repaired} answers of the form at the second attempt")
    return "; ".join([*remarks, *row.notes])


def _reading(table: VqaTable) -> str:
    lines = [
        "- zero-shot: the base model as it is; LoRA: with the adapter of `train vqa`. shown: the sampled video, the "
        "pictures at onset, apex and offset (oao), the picture of the optical flow, or a combination.",
        "- embedded: measured by the pipeline, no model server. "
        f"{PRIOR}: the most frequent answer to each kind of question, counted in the {table.prior_source}, without "
        "looking at any video: what does not beat it has learnt nothing from the pictures.",
        "- replaced: questions for which the embedded answer stands, because the server gave none or none of the right "
        "form; they count for the row.",
        "- UF1 and UAR: the rows with exactly the class question; no class: answers to these that name none.",
        "- BLEU and ROUGE-1 over all rows, in two variants each, because the official one is not public: "
        + "; ".join(f"{name}: {what}" for name, what in table.signatures.items())
        + ". Published values are of unknown variants.",
    ]
    if table.not_comparable:
        lines.append(f"- comparable: no, {table.not_comparable}.")
    return "\n".join(lines)


def _made(table: VqaTable) -> str:
    where = table.environment
    packages = ", ".join(f"{name} {version}" for name, version in where.packages.items())
    lines = [
        f"    {table.command}",
        "",
        f"megc-stream {where.megc_stream}, Python {where.python}, {where.platform} ({where.machine}); {packages}.",
    ]
    if table.training is not None:
        facts = table.training
        lines += [
            "",
            f"Adapter: base {facts['model']['name']}, {facts['lessons']} lessons, {len(facts['trained_on'])} persons, "
            f"{facts['steps']} steps, rank {facts['lora']['rank']}, seed {facts['lora']['seed']}, prompts "
            f"{facts['prompts']['id']}; held out: {', '.join(facts['held_out']) or 'nobody'}.",
        ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _pair(first: float | None, second: float | None) -> str:
    return f"{_number(first)} / {_number(second)}"


def _count(value: int | None) -> str:
    return _NONE if value is None else str(value)
