"""What is said of events while a run goes on."""

from __future__ import annotations

import pytest

from megc_stream.cli.progress import CountProgress, RunProgress
from megc_stream.records import Crop, Event, EventPoint, StreamInfo


def event(onset_s: float) -> Event:
    onset, offset = (EventPoint(frame=0, number=n, t_s=onset_s + n / 100) for n in (7, 40))
    return Event(
        event_id="cam-0001",
        event_number=1,
        rev=2,
        kind="label",
        final=True,
        source="cam",
        subject="cam",
        video="cam",
        decision_frame=60,
        onset=onset,
        apex=None,
        offset=offset,
        type="micro",
        score=0.5,
        threshold=0.4,
        model="m",
        model_sha256="",
        k=10,
        k_prime=18,
        lookahead_s=0.46,
    )


@pytest.mark.parametrize(("live", "text"), [(True, "    2.57 s   0.33 s long"), (False, "51655.57 s   0.33 s long")])
def test_times_of_live_events_count_from_the_first_frame(
    capsys: pytest.CaptureFixture[str], live: bool, text: str
) -> None:
    with CountProgress("analysing") as progress:
        sink = RunProgress(progress)
        sink.write(StreamInfo(source="cam", subject="cam", video="cam", fps=100, width=8, height=8, live=live))
        for n in range(3):
            sink.write(Crop(source="cam", frame=n, number=n, t_capture_s=51653.0 + n / 100, segment=-1))
        sink.write(event(51655.5))
    assert text in capsys.readouterr().err
