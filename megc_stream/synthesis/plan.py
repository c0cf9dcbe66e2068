"""What happens in a synthetic clip, decided from a seed before any picture is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np

from megc_stream.errors import UsageError
from megc_stream.synthesis.action_units import EMOTION_UNITS, SidedUnit, parse_units

__all__ = ["Blink", "ClipPlan", "PlannedEvent", "Sine", "Speech", "Wave", "plan_clip", "plan_events", "wave_at"]

LEAD_S = 2.5
"""Seconds before the first event, where the clip is long enough: the causal spotter warms up for 2 s."""
SHORT_LEAD_S = 0.3
"""Seconds before the first event of a clip that is too short for ``LEAD_S``, and after the last one in any clip."""
SPACING_S = 1.0
"""Least time between the offset of an event and the onset of the next, seconds."""
_CLEARANCE_S = 0.15
_MAINS_FLICKER_HZ = 100.0


class Sine(NamedTuple):
    """One sinusoid, ``amplitude * sin(2 pi frequency_hz t + phase_rad)``."""

    amplitude: float
    frequency_hz: float
    phase_rad: float


Wave: TypeAlias = tuple[Sine, ...]
"""A sum of sinusoids."""


def wave_at(wave: Wave, time_s: float) -> float:
    """Return the value of a wave at a time."""
    return sum(sine.amplitude * math.sin(2 * math.pi * sine.frequency_hz * time_s + sine.phase_rad) for sine in wave)


class PlannedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One micro-expression: frames are 0-based and inclusive; at onset and offset the face is at rest.

    ``amplitude_iod`` is the largest displacement of the combined field at the apex, in inter-ocular distances;
    ``asymmetry`` as in :func:`megc_stream.synthesis.action_units.action_unit_field`.
    """

    onset: int
    apex: int
    offset: int
    emotion: str
    units: tuple[SidedUnit, ...]
    amplitude_iod: float
    asymmetry: float = 0.0


class Blink(NamedTuple):
    """Both eyes close and open."""

    start_s: float
    length_s: float


class Speech(NamedTuple):
    """The mouth opens and widens at 2-6 Hz, far more than in a micro-expression; amplitudes in IOD."""

    start_s: float
    length_s: float
    opening: Wave
    widening: Wave


class ClipPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a synthetic clip, apart from the portrait.

    Parameters
    ----------
    fps, seconds
        Frames per second and length; the clip has ``frames`` frames.
    width, height
        Picture size, px.
    interocular_px, centre_px, roll_deg
        Size of the face, where the point between its eyes lies, and its tilt (clockwise as seen), at rest.
    events, blinks, speech
        What the face does.
    sway_x_iod, sway_y_iod, sway_roll_deg, sway_log_scale
        Movement of the head: translation in IOD, rotation in degrees, natural logarithm of the size.
    gain, gradient_x, gradient_y
        Drift of the light: relative change of brightness everywhere, and from the middle to the edge of the picture.
    flicker
        Relative change of brightness at the mains' 100 Hz; sampling at ``fps`` makes the alias seen in footage.
    noise_sigma
        Standard deviation of the sensor's Gaussian noise, 0..255 units.
    blur_px
        Standard deviation of the blur by lens and pixel size, px of the frame.
    seed
        Seeds the noise.
    """

    fps: float
    seconds: float
    width: int = 640
    height: int = 480
    interocular_px: float = 100.0
    centre_px: tuple[float, float] = (320.0, 200.0)
    roll_deg: float = 0.0
    events: tuple[PlannedEvent, ...] = ()
    blinks: tuple[Blink, ...] = ()
    speech: tuple[Speech, ...] = ()
    sway_x_iod: Wave = ()
    sway_y_iod: Wave = ()
    sway_roll_deg: Wave = ()
    sway_log_scale: Wave = ()
    gain: Wave = ()
    gradient_x: Wave = ()
    gradient_y: Wave = ()
    flicker: Wave = ()
    noise_sigma: float = 0.0
    blur_px: float = 0.5
    seed: int = 0

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(1, math.floor(self.seconds * self.fps + 0.5))


def plan_clip(
    seed: int,
    fps: float = 200.0,
    seconds: float = 20.0,
    *,
    events: int = 6,
    amplitude_iod: tuple[float, float] = (0.018, 0.05),
    length_s: tuple[float, float] = (0.1, 0.5),
    width: int = 640,
    height: int = 480,
    interocular_px_range: tuple[float, float] = (90.0, 110.0),
    sway_iod: tuple[float, float] = (0.015, 0.06),
    drift: float = 0.06,
    flicker: float = 0.01,
    noise_sigma: float = 2.0,
    blinks_per_s: float = 0.2,
    speech_per_s: float = 0.05,
    overlap: bool = False,
) -> ClipPlan:
    """Plan a clip; the same seed plans the same, and with another ``fps`` the same in seconds, frame rounding apart.

    Parameters
    ----------
    seed
        Any integer >= 0.
    fps, seconds, width, height
        Rate in frames per second, length, and picture size in px.
    events
        How many micro-expressions; they are at least 1 s apart, the first 2.5 s after the start where there is room.
    amplitude_iod, length_s
        Ranges of the events' amplitude (in IOD) and length from onset to offset (seconds).
    interocular_px_range
        Range of the inter-ocular distance in the frame, px.
    sway_iod
        Range of the largest translation of the head, in IOD; rotation and size sway with it. (0, 0) holds it still.
    drift, flicker
        Largest relative change of brightness by drift of the light, and by flicker.
    noise_sigma
        Standard deviation of the noise, 0..255 units.
    blinks_per_s, speech_per_s
        Mean rate of blinks (0.15-0.3 s) and of bouts of speech (1-3 s); fewer where there is no room.
    overlap
        Let blinks and speech overlap events.

    Raises
    ------
    UsageError
        A value out of range, or more events than fit.
    """
    _check_clip(seed, fps, seconds, width, height)
    # Independent generators, so that one more event does not change the sway.
    seeds = np.random.SeedSequence(seed).spawn(5)
    for_events, for_blinks, for_speech, for_head, for_light = (np.random.Generator(np.random.PCG64(s)) for s in seeds)
    planned = plan_events(for_events, fps, [(0.0, seconds)], events, amplitude_iod, length_s)
    taken = [] if overlap else [(event.onset / fps, event.offset / fps) for event in planned]
    blinks = [
        Blink(start, length) for start, length in _distractors(for_blinks, seconds, blinks_per_s, (0.15, 0.3), taken)
    ]
    speech = [
        _speech(for_speech, start, length)
        for start, length in _distractors(for_speech, seconds, speech_per_s, (1.0, 3.0), taken)
    ]
    sway = for_head.uniform(*sway_iod)
    return ClipPlan(
        fps=fps,
        seconds=seconds,
        width=width,
        height=height,
        interocular_px=for_head.uniform(*interocular_px_range),
        centre_px=(width * for_head.uniform(0.47, 0.53), height * for_head.uniform(0.40, 0.44)),
        roll_deg=for_head.uniform(-4, 4),
        events=planned,
        blinks=tuple(blinks),
        speech=tuple(speech),
        sway_x_iod=_slow_wave(for_head, sway),
        sway_y_iod=_slow_wave(for_head, 0.7 * sway),
        sway_roll_deg=_slow_wave(for_head, 25 * sway),
        sway_log_scale=_slow_wave(for_head, 0.3 * sway),
        gain=_slow_wave(for_light, drift * for_light.uniform(0.3, 0.7)),
        gradient_x=_slow_wave(for_light, drift * for_light.uniform(0, 0.3)),
        gradient_y=_slow_wave(for_light, drift * for_light.uniform(0, 0.3)),
        flicker=(_mains(for_light, flicker),),
        noise_sigma=noise_sigma,
        blur_px=for_light.uniform(0.4, 0.7),
        seed=seed,
    )


def plan_events(
    generator: np.random.Generator,
    fps: float,
    spans_s: Sequence[tuple[float, float]],
    events: int,
    amplitude_iod: tuple[float, float],
    length_s: tuple[float, float],
) -> tuple[PlannedEvent, ...]:
    """Place events at random inside some spans of time, emotions in equal shares.

    Parameters
    ----------
    generator
        Where the chance comes from.
    fps
        Frames per second.
    spans_s
        Start and end, in seconds, of the stretches that events may lie in, with a lead and a tail inside each.
    events, amplitude_iod, length_s
        As in :func:`plan_clip`.

    Raises
    ------
    UsageError
        A value out of range, or more events than fit.
    """
    _check_events(events, amplitude_iod, length_s)
    emotions = [name for _ in range(math.ceil(events / 3)) for name in generator.permutation(sorted(EMOTION_UNITS))]
    lengths = generator.uniform(*length_s, size=events)
    onsets_s = _place(generator, spans_s, lengths, length_s[1])
    planned = []
    for emotion, length, onset_s in zip(emotions, lengths, onsets_s, strict=False):
        units = EMOTION_UNITS[emotion][generator.integers(len(EMOTION_UNITS[emotion]))]
        share, amplitude, asymmetry = (
            generator.uniform(0.35, 0.65),
            generator.uniform(*amplitude_iod),
            generator.uniform(-0.2, 0.2),
        )
        onset = math.floor(onset_s * fps + 0.5)
        offset = max(onset + 2, math.floor((onset_s + length) * fps + 0.5))
        apex = math.floor((onset_s + share * length) * fps + 0.5)
        planned.append(
            PlannedEvent(
                onset=onset,
                apex=min(max(apex, onset + 1), offset - 1),
                offset=offset,
                emotion=str(emotion),
                units=parse_units(units),
                amplitude_iod=amplitude,
                asymmetry=asymmetry,
            )
        )
    return tuple(planned)


def _place(
    generator: np.random.Generator,
    spans_s: Sequence[tuple[float, float]],
    lengths: np.ndarray,
    longest_s: float,
) -> list[float]:
    """Return the onset, in seconds, of every event: spans are filled evenly, what is left over becomes random gaps."""
    need_s = longest_s + SPACING_S
    for lead_s in (LEAD_S, SHORT_LEAD_S):
        rooms = [max(0.0, end - SHORT_LEAD_S - start - lead_s) for start, end in spans_s]
        capacities = [int((room + SPACING_S + 1e-9) / need_s) for room in rooms]
        if sum(capacities) >= len(lengths):
            break
    else:
        raise UsageError(
            f"{len(lengths)} events of up to {longest_s:g} s: only {sum(capacities)} fit into "
            f"{sum(end - start for start, end in spans_s):g} s with {SPACING_S:g} s between them; "
            "ask for fewer or take a longer clip"
        )
    counts = [0] * len(spans_s)
    for _ in lengths:  # each into the span with most room per event, so that all are filled evenly
        free = [rooms[i] / (counts[i] + 1) if counts[i] < capacities[i] else -1.0 for i in range(len(rooms))]
        counts[int(np.argmax(free))] += 1
    onsets, first = [], 0
    for (start, _), room, count in zip(spans_s, rooms, counts, strict=True):
        own = lengths[first : first + count]
        first += count
        slack = room - own.sum() - SPACING_S * max(0, count - 1)
        gaps = np.sort(generator.uniform(0, slack, size=count))
        before = np.concatenate([[0.0], np.cumsum(own + SPACING_S)[:-1]]) if count else own
        onsets.extend((start + lead_s + gaps + before).tolist())
    return onsets


def _distractors(
    generator: np.random.Generator,
    seconds: float,
    per_s: float,
    length_s: tuple[float, float],
    taken: Sequence[tuple[float, float]],
) -> list[tuple[float, float]]:
    """Return (start, length) in seconds of things that keep clear of ``taken`` and of each other."""
    placed: list[tuple[float, float]] = []
    wanted = int(generator.poisson(per_s * seconds))
    for _ in range(20 * wanted):
        length = generator.uniform(*length_s)
        start = generator.uniform(0, seconds)
        others = [*taken, *((begin, begin + extent) for begin, extent in placed)]
        clear = all(start > end + _CLEARANCE_S or start + length < begin - _CLEARANCE_S for begin, end in others)
        if clear and start + length < seconds:
            placed.append((start, length))
        if len(placed) == wanted:
            break
    return sorted(placed)


def _speech(generator: np.random.Generator, start_s: float, length_s: float) -> Speech:
    return Speech(
        start_s,
        length_s,
        _sines(generator, generator.uniform(0.05, 0.12), (2.0, 6.0)),
        _sines(generator, generator.uniform(0.02, 0.05), (2.0, 6.0)),
    )


def _slow_wave(generator: np.random.Generator, amplitude: float) -> Wave:
    return _sines(generator, amplitude, (0.05, 0.6))


def _sines(generator: np.random.Generator, amplitude: float, frequencies_hz: tuple[float, float]) -> Wave:
    shares = generator.dirichlet((2.0, 2.0, 2.0))
    return tuple(
        Sine(amplitude * float(share), generator.uniform(*frequencies_hz), generator.uniform(0, 2 * math.pi))
        for share in shares
    )


def _mains(generator: np.random.Generator, amplitude: float) -> Sine:
    return Sine(
        generator.uniform(0.3, 1.0) * amplitude,
        _MAINS_FLICKER_HZ + generator.uniform(-0.1, 0.1),
        generator.uniform(0, 2 * math.pi),
    )


def _check_clip(seed: int, fps: float, seconds: float, width: int, height: int) -> None:
    if seed < 0:
        raise UsageError(f"seed {seed}: expected an integer >= 0")
    if not 1 <= fps <= 2000:
        raise UsageError(f"fps {fps:g}: expected 1 to 2000 frames per second")
    if not 0 < seconds <= 24 * 3600:
        raise UsageError(f"seconds {seconds:g}: expected more than 0 and at most a day")
    if min(width, height) < 64 or max(width, height) > 8192:
        raise UsageError(f"picture of {width}x{height} px: expected 64 to 8192 px each way")


def _check_events(events: int, amplitude_iod: tuple[float, float], length_s: tuple[float, float]) -> None:
    if events < 0:
        raise UsageError(f"events {events}: expected a number >= 0")
    if not 0 < amplitude_iod[0] <= amplitude_iod[1] <= 0.1:
        raise UsageError(f"amplitude_iod {amplitude_iod}: expected 0 < lowest <= highest <= 0.1 inter-ocular distances")
    if not 0 < length_s[0] <= length_s[1] <= 5:
        raise UsageError(f"length_s {length_s}: expected 0 < shortest <= longest <= 5 seconds")
