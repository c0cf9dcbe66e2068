"""``megc-stream evaluate``: scores of predictions and answers against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megc_stream.cli.options import JsonOption

if TYPE_CHECKING:
    from megc_stream.evaluation import AnswerRow, LvqaReport, StrReport, VqaReport

__all__ = ["app"]

app = typer.Typer(help="Score predictions and answers against the truth.", no_args_is_help=True)

_ONE_SET = "all"
_SHOWN = 40

_PredOption = Annotated[
    list[str], typer.Option("--pred", metavar="[NAME=]FILE", help="Predictions; repeatable, one NAME a data set.")
]
_TruthOption = Annotated[
    list[str], typer.Option("--truth", metavar="[NAME=]FILE", help="Truth; repeatable, the same NAMEs.")
]
_TrainOption = Annotated[
    list[Path] | None,
    typer.Option("--train", metavar="FILE", help="Questions with answers for the prior-only baseline; repeatable."),
]


@app.command("str", epilog="Example: megc-stream evaluate str --pred intervals.csv --truth truth.csv --json -")
def evaluate_str_command(
    pred: _PredOption,
    truth: _TruthOption,
    compat: Annotated[
        bool, typer.Option("--compat", help="Score as the challenge's published evaluator does, quirks included.")
    ] = False,
    resamples: Annotated[
        int, typer.Option("--bootstrap", min=0, max=1_000_000, help="Resamples of the confidence intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    json_file: JsonOption = None,
) -> None:
    """Spot-then-recognise scores: spotting, analysis, STRS, pooled and by data set, class and subject."""
    from megc_stream.cli.console import report_json
    from megc_stream.evaluation import IntervalSet, evaluate_str, read_interval_rows

    files = _paired_files(pred, truth)
    sets = [
        IntervalSet(name=name, pred=read_interval_rows(p), truth=read_interval_rows(t))
        for name, (p, t) in files.items()
    ]
    pooled, by_set = evaluate_str(sets, mode="compat" if compat else "corrected", resamples=resamples, seed=seed)
    report_json(json_file, {**_str_json(pooled), "datasets": {name: _str_json(one) for name, one in by_set.items()}})
    if json_file != "-":
        _say_str(pooled, by_set)


@app.command(
    "vqa", epilog="Example: megc-stream evaluate vqa --pred pred.jsonl --truth truth.jsonl --train train.jsonl"
)
def evaluate_vqa_command(
    pred: _PredOption, truth: _TruthOption, train: _TrainOption = None, json_file: JsonOption = None
) -> None:
    """Scores of answers about short clips: UF1 and UAR of classes, BLEU and ROUGE-1, with a prior-only baseline."""
    from megc_stream.cli.console import report_json, say
    from megc_stream.evaluation import evaluate_vqa

    report = evaluate_vqa(*_answers(pred, truth, train))
    report_json(
        json_file, {**_answers_json(report), "by_question": _plain(report.by_question), "variants": report.signatures}
    )
    if json_file == "-":
        return
    _say_answers(report)
    say()
    say("by question")
    rows = [(q.kind, q.rows, q.exact, q.prior_exact, q.bleu_sentence, q.rouge1_recall) for q in report.by_question]
    _say_table(("question", "rows", "exact", "prior", "BLEU sentence", "ROUGE-1 recall"), rows)
    say()
    for name, signature in report.signatures.items():
        say(f"{name}: {signature}")


@app.command("lvqa", epilog="Example: megc-stream evaluate lvqa --pred pred.jsonl --truth truth.jsonl --json -")
def evaluate_lvqa_command(
    pred: _PredOption, truth: _TruthOption, train: _TrainOption = None, json_file: JsonOption = None
) -> None:
    """Scores of answers about long videos: counts, action units, types of events, with a prior-only baseline."""
    from megc_stream.cli.console import report_json
    from megc_stream.evaluation import evaluate_lvqa

    report = evaluate_lvqa(*_answers(pred, truth, train))
    report_json(json_file, _answers_json(report))
    if json_file != "-":
        _say_answers(report)


def _paired_files(pred: Sequence[str], truth: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Return the two files of each data set."""
    from megc_stream.errors import UsageError

    sides: list[dict[str, Path]] = []
    for option, texts in (("--pred", pred), ("--truth", truth)):
        files: dict[str, Path] = {}
        for text in texts:
            name, path = _named(text)
            if name in files:
                raise UsageError(f"{option} {text}: a second file for '{name}'; give each data set a name, NAME=FILE")
            files[name] = path
        sides.append(files)
    if set(sides[0]) != set(sides[1]):
        raise UsageError(
            f"--pred has {', '.join(sorted(sides[0]))}, --truth has {', '.join(sorted(sides[1]))}; "
            "expected the same names on both, as NAME=FILE"
        )
    return {name: (path, sides[1][name]) for name, path in sides[0].items()}


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file or Path(text).exists():
        return _ONE_SET, Path(text)
    return name, Path(file)


def _answers(
    pred: Sequence[str], truth: Sequence[str], train: Sequence[Path] | None
) -> tuple[list[AnswerRow], list[AnswerRow], list[AnswerRow] | None]:
    """Read all files; a NAME replaces the data set's name of its rows."""
    import msgspec

    from megc_stream.evaluation import read_answers

    sides: list[list[AnswerRow]] = []
    for texts in (pred, truth):
        rows: list[AnswerRow] = []
        for text in texts:
            name, path = _named(text)
            read = read_answers(path)
            rows += read if name == _ONE_SET else [msgspec.structs.replace(row, dataset=name) for row in read]
        sides.append(rows)
    return sides[0], sides[1], None if not train else [row for path in train for row in read_answers(path)]


def _plain(record: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(record)


def _str_json(report: StrReport) -> dict[str, Any]:
    """Return the published evaluator's names at the top, everything else beside them."""
    data: dict[str, Any] = _plain(report)
    del data["name"]
    score: dict[str, Any] = data.pop("score")
    precision = data["average_precision"]
    return {**score, "AP@[.5:.95]": precision["mean"], "apex MAE frames": data["apex"]["frames"], **data}


def _answers_json(report: VqaReport | LvqaReport) -> dict[str, Any]:
    return {
        **_plain(report.score),
        "prior": _plain(report.prior),
        "prior_source": report.prior_source,
        "datasets": {name: {**_plain(one), "prior": _plain(prior)} for name, (one, prior) in report.datasets.items()},
        "notes": list(report.notes),
    }


def _say_str(pooled: StrReport, by_set: dict[str, StrReport]) -> None:
    from megc_stream.cli.console import say

    reports = [pooled, *by_set.values()] if len(by_set) > 1 else [pooled]
    named = "the challenge's published evaluator, quirks included" if pooled.mode == "compat" else "corrected"
    say(f"rules: {named}")
    level = f"{pooled.confidence.level:.0%}"
    if len(reports) > 1:
        header: list[str] = ["", "all", *by_set]
        say()
        _say_table(
            header, [(name, *(_plain(report.score)[name] for report in reports)) for name in _plain(pooled.score)]
        )
    say()
    say(f"all data sets: {level} interval over {pooled.confidence.subjects} subjects")
    rows = []
    for name, value in _plain(pooled.score).items():
        interval = pooled.confidence.intervals.get(name)
        rows.append((name, value, "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"))
    _say_table(("score", "value", f"{level} interval"), rows)
    ap = pooled.average_precision
    say()
    _say_table(("IoU", *ap.by_iou, "mean"), [("AP", *ap.by_iou.values(), ap.mean)])
    say()
    _say_table(
        ("class", "truths", "found", "named", "precision", "recall", "F1"),
        [(c.emotion, c.truths, c.found, c.named, c.precision, c.recall, c.f1) for c in pooled.per_class],
    )
    say()
    _say_table(
        ("subject", "TP", "FP", "FN", "F1 spotting", "analysed", "right", "STRS"),
        [
            (s.subject, s.tp, s.fp, s.fn, s.f1_spotting, s.analysed, s.right, s.strs)
            for s in pooled.per_subject[:_SHOWN]
        ],
    )
    if len(pooled.per_subject) > _SHOWN:
        say(f"... {len(pooled.per_subject) - _SHOWN} more subjects; --json has all")
    if pooled.duration is not None:
        say()
        _say_table(
            (f"by {pooled.duration.by}", "TP", "FP", "FN", "precision", "recall", "F1"),
            [
                (kind, one.tp, one.fp, one.fn, one.precision, one.recall, one.f1)
                for kind, one in (("micro", pooled.duration.micro), ("macro", pooled.duration.macro))
            ],
        )
    say()
    if pooled.apex.frames is not None:
        in_ms = "" if pooled.apex.ms is None else f", {pooled.apex.ms:.1f} ms"
        say(f"apex: mean absolute error {pooled.apex.frames:.2f} frames{in_ms}")
    for text in pooled.notes:
        say(text)
    for report in reports:
        say()
        _say_differences(report)


def _say_differences(report: StrReport) -> None:
    from megc_stream.cli.console import say

    if not report.differences:
        say(f"{report.name}: the published evaluator and the corrected rules agree")
        return
    say(f"{report.name}: where the published evaluator differs")
    _say_table(
        ("score", "corrected", "published", "difference"),
        [(name, d.corrected, d.published, d.difference) for name, d in report.differences.items()],
    )
    for reason in report.reasons:
        say(f"  - {reason}")


def _say_answers(report: VqaReport | LvqaReport) -> None:
    from megc_stream.cli.console import say

    say(f"prior-only baseline: the most frequent answer to each kind of question, from: {report.prior_source}")
    say()
    header = ["score", "all", "prior"]
    columns = [_plain(report.score), _plain(report.prior)]
    for name, (score, prior) in report.datasets.items() if len(report.datasets) > 1 else ():
        header += [name, "prior"]
        columns += [_plain(score), _plain(prior)]
    _say_table(header, [(name, *(column[name] for column in columns)) for name in columns[0]])
    for text in report.notes:
        say(text)


def _say_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns: the first to the left, the others to the right; ``-`` is undefined."""
    from megc_stream.cli.console import say

    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        first = row[0].ljust(widths[0])
        others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        say("  ".join((first, *others)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
