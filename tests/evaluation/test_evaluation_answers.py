from __future__ import annotations

import math

import pytest

from megc_stream.errors import DataError
from megc_stream.evaluation import AnswerRow, evaluate_lvqa, evaluate_vqa
from megc_stream.evaluation.answers import pair_answers, prior_answers
from megc_stream.evaluation.classification import classification_score
from megc_stream.evaluation.labels import parse_coarse, parse_count, parse_event_type, parse_fine, parse_units
from megc_stream.evaluation.text_scores import row_text_scores, text_scores
from megc_stream.vqa.questions import kind_of

COARSE = "What is the coarse expression class?"
FINE = "What is the fine-grained expression class?"
UNITS = "What are the action units?"


def _row(video: str, question: str, answer: str, dataset: str = "samm") -> AnswerRow:
    return AnswerRow(
        video_id=f"{dataset}_test_{video}",
        question=question,
        answer=answer,
        dataset=dataset,
        video=video,
        file="rows.jsonl",
        row=1,
        fields={},
    )


# --- questions and labels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (COARSE, "coarse"),
        (FINE, "fine"),
        ("What is the action unit?", "units_one"),
        (UNITS, "units_several"),
        ("Is the action unit brow lowerer shown on the face?", "unit_shown"),
        ("Is the action unit lip corner puller located on the left or right face?", "unit_side"),
        (
            "What is the action unit present, and based on it, what is the fine-grained expression and the coarse "
            "expression class?",
            "combined_one",
        ),
        (
            "What are the action units present, and based on them, what is the fine-grained expression and the coarse "
            "expression class?",
            "combined_several",
        ),
        ("Please analyse the micro-expression shown in this video in detail.", "analysis"),
        ("Provide a detailed analysis of the micro-expression observed in this clip.", "analysis"),
        ("Provide a comprehensive analysis of the facial micro-expression shown in this clip.", "analysis"),
        ("How many expression events appear in this video?", "count_all"),
        ("How many micro-expression events appear in this video?", "count_micro"),
        ("How many macro-expression events appear in this video?", "count_macro"),
        ("What distinct action units appear in this video?", "unit_set"),
        ("What is the expression type of the 33rd expression event in this video?", "event_type"),
        ("Who is this?", "other"),
    ],
)
def test_questions_are_told_by_their_wording(question: str, kind: str) -> None:
    assert kind_of(question) == kind
    assert kind_of(f"  {question.upper()} ") == kind


def test_labels_are_parsed_as_documented() -> None:
    assert [parse_coarse(a) for a in ("negative", " Negative.", '"positive"')] == ["negative", "negative", "positive"]
    # The phrase goes before the first word that is a label.
    text = "Surprise: the fine-grained expression class is fear, and the coarse expression class is negative."
    assert (parse_coarse(text), parse_fine(text)) == ("negative", "fear")
    assert parse_fine("I think happiness, not anger") == "happiness"
    assert (parse_coarse("unnegative"), parse_fine("happy"), parse_coarse("")) == ("", "", "")
    assert [parse_event_type(a) for a in ("micro-expression", "A macro expression", "none")] == [
        "micro-expression",
        "macro-expression",
        "",
    ]
    assert [parse_count(a) for a in ("3", "There are 12 events.", "three", "many", "9" * 5000)] == [
        3,
        12,
        3,
        None,
        None,
    ]


def test_action_units_are_parsed_as_documented() -> None:
    pair = frozenset({"brow lowerer", "lid tightener"})
    for text in (
        "brow lowerer, lid tightener",
        "The action units present are: Brow Lowerer and lid tightener.",
        "AU4, AU 7",
        "AU4 (brow lowerer); 7",
    ):
        assert parse_units(text) == pair, text
    assert parse_units("none") == parse_units("") == frozenset()
    assert parse_units("ear wiggler") == {"ear wiggler"}


# --- classes and wording ---------------------------------------------------------------------------------------------


def test_uf1_and_uar_by_hand() -> None:
    pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("c", ""), ("c", "d")]
    score = classification_score(pairs)
    # F1: a 2/3, b 2/3, c 0, d 0; recall: a 1/2, b 1, c 0.
    assert score.uf1 == pytest.approx((2 / 3 + 2 / 3) / 4)
    assert score.uar == pytest.approx((1 / 2 + 1) / 3)
    assert (score.accuracy, score.unparsed) == (2 / 5, 1)
    assert classification_score([]).uf1 is None


def test_text_scores_by_hand() -> None:
    truths = ["negative", "brow lowerer, lid tightener", "the action unit present is: dimpler"]
    answers = ["negative", "brow lowerer, lid tightener", "the action unit present is dimpler"]
    rows = row_text_scores(answers, truths)
    # One exact word: 1-gram 1, the missing 2- to 4-grams 0.1 each.
    assert rows[0].bleu_sentence == pytest.approx(0.1 ** (3 / 4))
    assert rows[1].bleu_sentence == pytest.approx(1.0)
    # 5 of 6 words; 4 of 5 2-grams are not shared, and so on: here only that it is less.
    assert 0 < rows[2].bleu_sentence < 1
    assert [row.rouge1_recall for row in rows] == [1.0, 1.0, 1.0]
    pooled = text_scores(answers, truths, rows)
    assert pooled.bleu_sentence == pytest.approx(sum(row.bleu_sentence for row in rows) / 3)
    assert pooled.bleu_corpus is not None
    assert 0 < pooled.bleu_corpus < 1


def _corpus_bleu(answers: list[list[str]], truths: list[list[str]]) -> float:
    """BLEU-4 over all rows without smoothing, as its definition has it."""
    log = 0.0
    for n in range(1, 5):
        right = total = 0
        for answer, truth in zip(answers, truths, strict=True):
            grams = [[tuple(words[i : i + n]) for i in range(len(words) - n + 1)] for words in (answer, truth)]
            right += sum(min(grams[0].count(gram), grams[1].count(gram)) for gram in set(grams[0]))
            total += len(grams[0])
        log += math.log(right / total) / 4
    short = sum(map(len, truths)) / sum(map(len, answers))
    return math.exp(log + min(0.0, 1 - short))


def test_corpus_bleu_agrees_with_its_definition() -> None:
    truths = ["the unit is brow lowerer and the class is negative", "positive", "brow lowerer lid tightener dimpler"]
    answers = ["the unit is brow raiser and the class is negative", "negative", "brow lowerer lid tightener"]
    found = text_scores(answers, truths, row_text_scores(answers, truths)).bleu_corpus
    assert found == pytest.approx(_corpus_bleu([a.split() for a in answers], [t.split() for t in truths]))


def test_rouge_is_recall_or_f1_of_stemmed_words() -> None:
    (row,) = row_text_scores(["brow lower"], ["brow lowered, lids tighten"])
    assert row.rouge1_recall == pytest.approx(2 / 4)
    assert row.rouge1_f1 == pytest.approx(2 * 2 / (4 + 2))


# --- rows and priors -------------------------------------------------------------------------------------------------


def test_rows_that_are_alike_are_matched_in_their_order() -> None:
    truth = [_row("1", UNITS, "a"), _row("1", UNITS, "b"), _row("2", UNITS, "c")]
    answers = [_row("1", UNITS, "x"), _row("1", UNITS, "y"), _row("1", UNITS, "z"), _row("3", UNITS, "w")]
    paired = pair_answers(answers, truth)
    assert [pair.answer for pair in paired.rows] == ["x", "y", ""]
    assert paired.notes == (
        "1 of 3 questions have no answer and count as wrong",
        "2 answers belong to no question of the truth and are left out",
    )


def test_unfit_sides_are_refused() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl, row 1, field answer: the truth has none"):
        pair_answers([_row("1", COARSE, "a")], [_row("1", COARSE, "")])
    with pytest.raises(DataError, match=r"share no \(video_id, question\)"):
        pair_answers([_row("1", COARSE, "a")], [_row("2", COARSE, "a")])


def test_priors_never_see_their_own_video() -> None:
    truth = [_row("1", COARSE, "negative"), _row("2", COARSE, "negative"), _row("3", COARSE, "positive")]
    priors, source = prior_answers(truth)
    # Without video 1, negative and positive are equally frequent: the alphabet decides.
    assert priors == ["negative", "negative", "negative"]
    assert prior_answers(truth[:1])[0] == [""]
    assert source == "truth, leaving each video out"
    twice = [_row("1", COARSE, "surprise"), _row("1", COARSE, "surprise"), _row("2", COARSE, "negative")]
    assert prior_answers(twice)[0] == ["negative", "negative", "surprise"]
    trained, source = prior_answers(truth, [_row("9", COARSE, "surprise", "casme2")])
    assert (trained, source) == (["surprise"] * 3, "training file")


# --- whole reports ---------------------------------------------------------------------------------------------------


def test_vqa_scores_all_rows_and_each_data_set() -> None:
    truth = [
        *(_row(str(n), COARSE, label) for n, label in enumerate(("negative", "negative", "positive"))),
        *(_row(str(n), FINE, label) for n, label in enumerate(("anger", "fear", "happiness"))),
        *(_row(str(n), COARSE, label, "casme3") for n, label in enumerate(("surprise", "negative"))),
    ]
    answers = [
        *(_row(str(n), COARSE, label) for n, label in enumerate(("Negative.", "positive", "positive"))),
        *(_row(str(n), FINE, label) for n, label in enumerate(("anger", "anger", "happiness"))),
        *(_row(str(n), COARSE, label, "casme3") for n, label in enumerate(("surprise", "negative"))),
    ]
    report = evaluate_vqa(answers, truth)
    assert list(report.datasets) == ["casme3", "samm"]
    samm, _ = report.datasets["samm"]
    assert samm.uf1_coarse == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert samm.uar_coarse == pytest.approx((1 / 2 + 1) / 2)
    assert samm.uf1_fine == pytest.approx((2 / 3 + 0 + 1) / 3)
    casme3, prior = report.datasets["casme3"]
    assert (casme3.uf1_coarse, casme3.uf1_fine, casme3.bleu_corpus) == (1.0, None, 0.0)
    assert prior.rows == 2
    assert report.score.rows == 8
    assert {question.kind: question.rows for question in report.by_question} == {"coarse": 5, "fine": 3}
    assert set(report.signatures) == {"BLEU corpus", "BLEU sentence", "ROUGE-1 recall", "ROUGE-1 F1"}
    assert "smooth:none" in report.signatures["BLEU corpus"]


def test_the_truth_itself_scores_one() -> None:
    truth = [_row(str(n), COARSE, label) for n, label in enumerate(("negative", "positive", "surprise"))]
    report = evaluate_vqa(truth, truth)
    assert (report.score.uf1_coarse, report.score.uar_coarse, report.score.rouge1_f1) == (1.0, 1.0, 1.0)
    assert report.prior.uf1_coarse == 0.0


def test_lvqa_by_hand() -> None:
    count, micro = (
        "How many expression events appear in this video?",
        "How many micro-expression events appear in this video?",
    )
    units, kind = (
        "What distinct action units appear in this video?",
        ("What is the expression type of the 2nd expression event in this video?"),
    )
    truth = [
        _row("1", count, "5"),
        _row("2", count, "3"),
        _row("1", micro, "2"),
        _row("1", units, "brow lowerer, dimpler"),
        _row("2", units, "jaw drop"),
        _row("1", kind, "micro-expression"),
        _row("2", kind, "macro-expression"),
    ]
    answers = [
        _row("1", count, "7 events"),
        _row("2", count, "unknown"),
        _row("1", micro, "two"),
        _row("1", units, "brow lowerer, jaw drop, lips part"),
        _row("2", units, "jaw drop"),
        _row("1", kind, "micro-expression"),
        _row("2", kind, "micro-expression"),
    ]
    score = evaluate_lvqa(answers, truth).score
    assert score.mae_all == pytest.approx((2 + 3) / 2)
    assert score.rmse_all == pytest.approx(math.sqrt((4 + 9) / 2))
    assert score.mae_counts == pytest.approx((2 + 3 + 0) / 3)
    assert (score.mae_micro, score.mae_macro) == (0.0, None)
    assert score.f1_units == pytest.approx((2 / 5 + 1) / 2)
    assert score.jaccard_units == pytest.approx((1 / 4 + 1) / 2)
    assert score.uf1_types == pytest.approx((2 / 3 + 0) / 2)
    assert score.uar_types == pytest.approx((1 + 0) / 2)
    assert score.unparsed == 1


def test_a_truth_without_a_count_is_refused() -> None:
    row = _row("1", "How many expression events appear in this video?", "many")
    with pytest.raises(DataError, match="got 'many'; expected a count of events"):
        evaluate_lvqa([row], [row])
