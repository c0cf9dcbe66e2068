from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from megc_stream.clock import ManualClock
from megc_stream.errors import UsageError
from megc_stream.models import MeanInfo
from megc_stream.records import Crop, Event, Record, Score, StreamEnd, StreamInfo, Trace
from megc_stream.settings import Settings, SpottingSettings
from megc_stream.spotting import Spotter, spot_video

FPS = 50.0
K = 5
K_PRIME = 9


class SpreadModel:
    """Stands for the network: its score is the spread of the strain channel, its class the half with more strain."""

    info = MeanInfo(
        name="spread", sha256="0" * 64, classes=("negative", "positive"), k_s=0.1, k_prime_s=0.185, trained_on="nothing"
    )

    def score(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        strain = features[..., 2]
        upper, lower = strain[:, :21].sum((1, 2)), strain[:, 21:].sum((1, 2))
        total = np.maximum(upper + lower, 1e-6)
        return (strain.max((1, 2)) > 0).astype(np.float32), np.stack([upper / total, lower / total], axis=1)


def landmarks() -> np.ndarray:
    points = np.full((68, 2), 64.0, np.float32)
    points[[17, 26]] = (20, 30), (108, 30)
    points[[19, 24]] = (40, 22), (88, 22)
    points[[41, 46]] = (42, 44), (86, 43)
    points[[60, 64]] = (50, 90), (78, 90)
    points[[50, 57]] = (60, 84), (64, 100)
    return points


_TEXTURE = np.clip(
    128 + 30 * cv2.GaussianBlur(np.random.default_rng(0).normal(size=(128, 128)), (0, 0), 2) / 0.14, 0, 255
).astype(np.uint8)


def picture(shift_px: float) -> np.ndarray:
    """The texture with its mouth region moved to the right."""
    y, x = np.mgrid[0:128, 0:128].astype(np.float32)
    bump = shift_px * np.exp(-((x - 64) ** 2 + (y - 92) ** 2) / 200)
    return cv2.remap(_TEXTURE, x - bump.astype(np.float32), y, cv2.INTER_LINEAR)


def crop(frame: int, shift_px: float = 0.0, segment: int = 0, lost: bool = False, number: int | None = None) -> Crop:
    return Crop(
        source="s_1",
        frame=frame,
        number=frame + 100 if number is None else number,
        t_capture_s=frame / FPS,
        pts_s=frame / FPS,
        segment=segment,
        image=None if lost else picture(shift_px),
        landmarks68=None if lost else landmarks(),
        flags=("lost",) if lost else (),
    )


def info(live: bool = False) -> StreamInfo:
    return StreamInfo(source="s_1", subject="s", video="s_1", fps=FPS, width=640, height=480, live=live)


def make(**spotting: object) -> Spotter:
    settings = Settings(spotting=SpottingSettings(warmup_s=0.5, **spotting))  # type: ignore[arg-type]
    return Spotter(settings, SpreadModel(), ManualClock(7.0))  # type: ignore[arg-type]


def clip(n: int = 200, onset: int = 90, apex: int = 98, offset: int = 106) -> list[Crop]:
    intensity = np.interp(np.arange(n), [onset, apex, offset], [0, 2.0, 0])
    return [crop(i, float(s)) for i, s in enumerate(intensity)]


def feed(stage: Spotter, crops: Iterable[Crop]) -> list[Record]:
    out = list(stage.process(info()))
    for record in crops:
        out.extend(stage.process(record))
    end = StreamEnd(source="s_1", frames=0, reason="end")
    out.extend(stage.process(end))
    out.extend(stage.flush())
    return out


def of(kind: type, records: Iterable[Record]) -> list:
    return [record for record in records if isinstance(record, kind)]


def test_every_pair_gets_a_score_that_names_its_frames() -> None:
    scores = of(Score, feed(make(), clip(40, 90, 98, 106)))
    assert [(s.frame, s.frame_to, s.number) for s in scores] == [(i, i + K, i + 100) for i in range(35)]
    assert all(s.t_score_s == 7.0 and s.pts_s == s.frame / FPS and not s.reason for s in scores)
    assert scores[3].t_capture_s == (3 + K) / FPS


def test_causal_events_are_revisions_of_one_event_at_the_planted_place() -> None:
    events = of(Event, feed(make(), clip()))
    assert [event.kind for event in events] == ["onset", "apex", "offset"]
    assert [event.rev for event in events] == [0, 1, 2]
    assert {event.event_id for event in events} == {"s_1-0001"}
    last = events[-1]
    assert last.apex is not None
    assert last.offset is not None
    assert abs(last.onset.frame - 90) <= 6
    assert abs(last.offset.frame - 106) <= 6
    assert last.offset.number == last.offset.frame + 100
    assert last.onset.t_s == pytest.approx(last.onset.frame / FPS)
    assert last.type == "micro"
    assert (last.k, last.k_prime, last.model) == (K, K_PRIME, "spread")
    assert last.lookahead_s == pytest.approx((K + 2 * K_PRIME - 1) / FPS)
    assert not last.final


def test_whole_video_mode_is_spot_video_clipped_and_comes_at_the_end() -> None:
    stage = make(mode="video")
    stage.process(info())
    crops = clip()
    before = [record for c in crops for record in stage.process(c)]
    assert not of(Event, before)
    after = list(stage.flush())
    expected = spot_video([s.spot for s in of(Score, before)], K_PRIME)
    offsets = [event for event in of(Event, after) if event.kind == "offset"]
    assert [(e.onset.frame, e.offset.frame) for e in offsets] == [(max(a, 0), min(b, 199)) for a, b in expected]
    assert len(of(Trace, after)) == len(of(Score, before))


def test_pairs_are_never_compared_across_a_loss() -> None:
    crops = [crop(i, segment=0 if i < 20 else 1, lost=i in (20, 21)) for i in range(40)]
    reasons = {s.frame_to: s.reason for s in of(Score, feed(make(), crops))}
    assert reasons[19] == ""
    assert reasons[20] == "face lost"
    assert all(reasons[i] for i in range(20, 27))
    assert reasons[22] == "face lost between"
    assert reasons[27] == ""


def test_a_pair_needs_both_its_frames() -> None:
    crops = [crop(i) for i in range(40) if i != 20]
    scores = {s.frame: s for s in of(Score, feed(make(), crops))}
    assert scores[20].reason == "frames missing"
    assert scores[20].spot is None
    assert scores[20].number == 120
    assert 15 not in scores
    assert scores[14].spot is not None


@pytest.mark.parametrize(
    ("mode", "crops", "cut"), [("causal", clip(), 100), ("video", clip(120, 50, 58, 66), 60)], ids=["causal", "video"]
)
def test_snapshot_goes_on_exactly_where_it_was(mode: str, crops: list[Crop], cut: int) -> None:
    whole = feed(make(mode=mode), crops)
    first, second = make(mode=mode), make(mode=mode)
    out = list(first.process(info()))
    for record in crops[:cut]:
        out.extend(first.process(record))
    second.restore(first.snapshot())
    for record in crops[cut:]:
        out.extend(second.process(record))
    out.extend(second.flush())
    assert out == whole


def test_blinks_inside_an_event_are_flagged_on_it() -> None:
    crops = clip()
    crops[100] = Crop(**{**{f: getattr(crops[100], f) for f in Crop.__struct_fields__}, "flags": ("blink",)})
    last = next(event for event in of(Event, feed(make(), crops)) if event.kind == "offset")
    assert last.flags == ("blink",)


def test_whole_video_on_a_camera_and_foreign_records_are_refused() -> None:
    with pytest.raises(UsageError, match="needs a file"):
        make(mode="video").process(info(live=True))
    with pytest.raises(UsageError, match="got a Score record"):
        make().process(of(Score, feed(make(), clip(20)))[0])


def test_a_stream_without_frames_gives_nothing() -> None:
    assert of(Event, feed(make(), [])) == []
    assert list(make().flush()) == []
    assert of(Event, feed(make(mode="video"), [crop(i, lost=True) for i in range(30)])) == []
