from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megc_stream.packing import Unpacker, pack
from megc_stream.settings import SpottingSettings
from megc_stream.spotting.causal import Candidate, CausalSpotter, Smoothed, State
from megc_stream.spotting.whole_video import smooth_scores

FPS = 100.0
K_PRIME = 19


def spotter(**changes: object) -> CausalSpotter:
    return CausalSpotter(SpottingSettings(**changes), FPS, K_PRIME)  # type: ignore[arg-type]


def scores_with(events: list[tuple[int, int]], n: int = 1500, noise: float = 0.02) -> np.ndarray:
    scores = np.random.default_rng(0).normal(0, noise, n)
    for onset, offset in events:
        scores[onset : offset + 1] += 0.8
    return scores


def run(target: CausalSpotter, scores: list[float | None] | np.ndarray) -> list[Candidate | Smoothed]:
    out: list[Candidate | Smoothed] = []
    for index, score in enumerate(scores):
        out.extend(target.push(index, score))
    out.extend(target.finish())
    return out


def steps(decisions: list[Candidate | Smoothed]) -> list[Candidate]:
    return [d for d in decisions if isinstance(d, Candidate)]


def test_smoothing_equals_the_whole_video_one() -> None:
    scores = scores_with([(600, 630)])
    smoothed = [d.smoothed for d in run(spotter(), scores) if isinstance(d, Smoothed)]
    assert np.allclose(smoothed, smooth_scores(scores, K_PRIME), atol=1e-12)


def test_planted_events_come_out_once_each_in_order() -> None:
    events = [(400, 440), (700, 725), (1100, 1150)]
    found = steps(run(spotter(), scores_with(events)))
    assert [step.kind for step in found] == ["onset", "apex", "offset"] * 3
    for (onset, offset), done in zip(events, (s for s in found if s.kind == "offset"), strict=True):
        overlap = min(offset, done.offset or 0) - max(onset, done.onset) + 1
        union = max(offset, done.offset or 0) - min(onset, done.onset) + 1
        assert overlap / union >= 0.5
        assert done.score > done.threshold


def test_fixed_borders_are_the_published_ones() -> None:
    offsets = [s for s in steps(run(spotter(refine_borders=False), scores_with([(700, 735)]))) if s.kind == "offset"]
    [done] = offsets
    assert done.apex is not None
    assert (done.onset, done.offset) == (done.apex - K_PRIME, done.apex + K_PRIME)


def test_a_decision_does_not_depend_on_what_comes_after_it() -> None:
    scores = scores_with([(700, 735)])
    whole = run(spotter(), scores)
    part = spotter()
    seen: list[Candidate | Smoothed] = []
    for index, score in enumerate(scores[:900]):
        seen.extend(part.push(index, score))
    assert seen == whole[: len(seen)]


def test_apex_is_confirmed_after_the_stated_delay() -> None:
    target = spotter()
    for index, score in enumerate(scores_with([(700, 735)])):
        for step in target.push(index, score):
            if isinstance(step, Candidate) and step.kind == "apex":
                assert step.apex is not None
                assert index - step.apex == target.lookahead
                return
    pytest.fail("no apex")


def test_nothing_is_reported_while_warming_up_and_in_noise() -> None:
    early = scores_with([(60, 100)])
    assert all(s.onset > 150 for s in steps(run(spotter(), early)))
    assert steps(run(spotter(), scores_with([]))) == []


def test_losing_the_face_while_rising_retracts_the_event() -> None:
    scores: list[float | None] = list(scores_with([(700, 735)]))
    scores[715:900] = [None] * 185
    found = steps(run(spotter(), scores))
    assert [s.kind for s in found] in (["onset", "retracted"], [])
    assert all("no score" in s.reason for s in found if s.kind == "retracted")


def test_a_lasting_change_is_retracted() -> None:
    scores = scores_with([(700, 1499)])
    found = steps(run(spotter(longest_s=2.0), scores))
    assert found[-1].kind == "retracted"
    assert "longer than 2.0 s" in found[-1].reason


def test_two_close_events_do_not_overlap() -> None:
    scores = scores_with([(600, 630)])
    scores[670:720] += 1.6
    found = [s for s in steps(run(spotter(), scores)) if s.kind == "offset"]
    assert len(found) == 2
    assert (found[0].offset or 0) < found[1].onset


def test_after_a_long_loss_the_history_begins_anew() -> None:
    scores: list[float | None] = list(np.random.default_rng(1).normal(0.2, 0.1, 4000))
    scores[1000:2500] = [None] * 1500
    target = spotter()
    decisions = run(target, scores)
    thresholds = {d.index: d.threshold for d in decisions if isinstance(d, Smoothed)}
    before, after = thresholds[990], thresholds[2900]
    assert before is not None
    assert thresholds[2510] is None
    assert after == pytest.approx(before, abs=0.15)
    assert steps(decisions) == []


@pytest.mark.parametrize("gap", [77, 100, 10**7])
def test_a_long_gap_costs_no_more_than_its_edges(gap: int) -> None:
    target = spotter()
    for index, score in enumerate(scores_with([(500, 560)], 540)):
        list(target.push(index, score))
    decisions = list(target.push(540 + gap, 0.0))
    assert len(decisions) <= 5 * K_PRIME
    assert steps(decisions)[-1].kind in ("offset", "retracted")
    indices = [d.index for d in decisions if isinstance(d, Smoothed)]
    assert indices == sorted(indices)
    for index in range(541 + gap, 900 + gap):
        decisions.extend(target.push(index, 0.0))
    assert all(s.kind != "onset" for s in steps(decisions))


def test_skipped_pairs_count_as_missing() -> None:
    target = spotter()
    list(target.push(0, 0.0))
    indices = [d.index for d in target.push(50, 0.0) if isinstance(d, Smoothed)]
    assert indices == list(range(50 - K_PRIME + 2))[-len(indices) :]
    assert target.state.next_index == 51


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1, 2)), min_size=1, max_size=400),
    st.integers(0, 399),
)
def test_event_lives_are_well_formed_and_survive_a_snapshot(scores: list[float | None], cut: int) -> None:
    fast = {"warmup_s": 0.1, "history_s": 1.0, "least_threshold": 0.1, "longest_s": 1.0}
    whole = run(spotter(**fast), scores)
    first, second = spotter(**fast), spotter(**fast)
    out: list[Candidate | Smoothed] = []
    for index, score in enumerate(scores):
        if index == cut:
            second.state = Unpacker[State](State)(pack(first.state))
            first = second
        out.extend(first.push(index, score))
    out.extend(first.finish())
    assert out == whole
    lives: dict[int, list[str]] = {}
    for step in steps(whole):
        lives.setdefault(step.number, []).append(step.kind)
    assert list(lives) == sorted(lives)
    for kinds in lives.values():
        assert kinds[0] == "onset"
        assert kinds[-1] in ("offset", "retracted")
        assert all(kind == "apex" for kind in kinds[1:-1])
    last_offset = -1
    for step in steps(whole):
        if step.kind in ("apex", "offset"):
            assert step.onset > last_offset, "events overlap"
        if step.kind == "offset":
            assert step.offset is not None
            assert step.apex is not None
            assert step.onset <= step.apex <= step.offset
            last_offset = step.offset
