"""Pairs with known content and no rendering: an event lights up a band of the features, one band per emotion."""

from __future__ import annotations

import numpy as np

from megc_stream.training.corpus import ClipPairs, ClipSpec
from megc_stream.training.pairs import CLASSES, TrueEvent

K = 3


def generated_clip(person: str = "anna", seed: int = 0, frame_count: int = 300, lit: float = 0.5) -> ClipPairs:
    """A dense clip at 30 fps with an event of 11 frames every 60 frames, rising for 5 and falling for 5."""
    rng = np.random.default_rng(seed)
    events = tuple(
        TrueEvent(onset, onset + 5, onset + 10, CLASSES[number % len(CLASSES)])
        for number, onset in enumerate(range(30, frame_count - 30, 60))
    )
    frames = np.arange(frame_count - K)
    features = rng.random((len(frames), 42, 42, 3)) * 0.5
    motion_px = np.zeros(len(frames), np.float32)
    index = np.full(len(frames), -1)
    for number, event in enumerate(events):
        band = CLASSES.index(event.emotion)
        rows = slice(4 + 14 * band, 12 + 14 * band)
        for frame in range(event.onset - K + 1, event.offset):
            index[frame] = number
            motion_px[frame] = 0.5 if frame < event.onset + 3 else -0.5
            features[frame, rows, :, 0 if motion_px[frame] > 0 else 1] += lit
    spec = ClipSpec(person, seed, 30.0, frame_count / 30, len(events), dense=True)
    return ClipPairs(
        person=person,
        video=f"{person}_{seed}",
        fps=30.0,
        frame_count=frame_count,
        k=K,
        first_number=0,
        events=events,
        frames=frames,
        features=features.astype(np.float16),
        spec=spec,
        motion_px=motion_px,
        event=index,
    )
