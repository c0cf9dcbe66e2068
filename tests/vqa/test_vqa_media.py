"""The three inputs: what is in them, at which times, and that the eyes are gone where they are to be."""

from __future__ import annotations

import base64
import io
from typing import Any

import av
import cv2
import msgspec
import numpy as np
import pytest

from megc_stream.errors import DataError, OutputError, UsageError
from megc_stream.flow import TVL1Solver
from megc_stream.vqa.material import Material
from megc_stream.vqa.media import (
    Video,
    encode_video,
    flow_part,
    flow_picture,
    flow_scale_px,
    parse_inputs,
    pictures_part,
    redact_eyes,
    sample_video,
    video_part,
)

FPS = 100.0


def texture(shift_px: float = 0.0) -> np.ndarray:
    """Return a smooth random crop, moved to the right."""
    rng = np.random.default_rng(5)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (128, 160)).astype(np.float32), (0, 0), 2.5)
    wide = (wide - wide.min()) / (wide.max() - wide.min()) * 255
    moved = cv2.warpAffine(wide, np.float32([[1, 0, shift_px], [0, 1, 0]]), (160, 128), flags=cv2.INTER_CUBIC)
    return np.clip(moved[:, 16:144], 0, 255).astype(np.uint8)


def material(count: int = 41, apex: int = 18, **changes: Any) -> Material:
    """Return an event of 41 crops at 100 frames a second in which all moves to the right by a pixel until the apex."""
    images = tuple(texture(min(1.0, n / apex)) for n in range(count))
    flow = np.zeros((128, 128, 2), np.float32)
    flow[..., 0] = 1.0
    known = Material(
        scope="event",
        source="clip",
        subject="s1",
        video="clip",
        dataset="samm",
        fps=FPS,
        images=images,
        times_s=tuple(7.5 + n / FPS for n in range(count)),
        frames=tuple(range(count)),
        onset=0,
        apex=apex,
        offset=count - 1,
        flow=flow,
    )
    return msgspec.structs.replace(known, **changes)


def decoded_video(data: bytes) -> tuple[list[np.ndarray], list[float], float, int]:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        rate, frames = float(stream.average_rate), stream.frames
        shown = [(frame.to_ndarray(format="gray"), frame.time) for frame in container.decode(stream)]
    return [image for image, _ in shown], [time for _, time in shown], rate, frames


def of_url(part: dict[str, Any]) -> tuple[str, bytes]:
    kind, _, data = part[part["type"]]["url"].removeprefix("data:").partition(";base64,")
    return kind, base64.b64decode(data)


def test_video_keeps_native_times_and_holds_the_apex() -> None:
    shown = sample_video(material())
    assert len(shown.images) == 16
    assert shown.times_s[0] == 0 and shown.times_s[-1] == pytest.approx(0.40)
    assert 0.18 in [round(time, 6) for time in shown.times_s]
    kind, data = of_url(video_part(material()))
    assert kind == "video/mp4"
    _, times_s, rate, frames = decoded_video(data)
    assert frames == 16
    assert times_s == pytest.approx(list(shown.times_s), abs=1e-4)
    # Servers divide frames by duration: 15 steps in 0.4 s.
    assert rate == pytest.approx(15 / 0.40, rel=0.01)


def test_short_event_is_shown_whole() -> None:
    images, times_s, rate, _ = decoded_video(encode_video(sample_video(material(count=6, apex=2))))
    assert len(images) == 6
    assert times_s == pytest.approx([n / FPS for n in range(6)], abs=1e-4)
    assert rate == pytest.approx(FPS, rel=0.01)


def test_single_image_is_a_video_of_one_frame() -> None:
    one = material(count=1, apex=1, offset=0)
    images, _, rate, _ = decoded_video(encode_video(sample_video(msgspec.structs.replace(one, apex=0))))
    assert len(images) == 1
    assert rate == pytest.approx(FPS, rel=0.01)


def test_motion_of_half_a_pixel_survives_the_video() -> None:
    images, _, _, _ = decoded_video(encode_video(sample_video(material(count=10, apex=18))))
    small = [cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) for image in (images[0], images[9])]
    flow = TVL1Solver(128, 128).solve(small[0], small[1])
    assert np.median(flow[16:-16, 16:-16, 0]) == pytest.approx(0.5, abs=0.04)
    assert np.median(flow[16:-16, 16:-16, 1]) == pytest.approx(0.0, abs=0.04)


def test_times_that_do_not_increase_are_refused() -> None:
    crop = texture()
    with pytest.raises(OutputError, match="times that increase"):
        encode_video(Video(images=(crop, crop), times_s=(0.0, 0.0), last_s=0.01))
    with pytest.raises(OutputError, match="at least one frame"):
        encode_video(Video(images=(), times_s=(), last_s=0.01))


def test_pictures_are_onset_apex_offset() -> None:
    event = material()
    parts = pictures_part(event)
    assert [of_url(part)[0] for part in parts] == ["image/png"] * 3
    for part, index in zip(parts, (0, 18, 40), strict=True):
        picture = cv2.imdecode(np.frombuffer(of_url(part)[1], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (224, 224)
        expected = cv2.resize(event.images[index], (224, 224), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    ("u", "v", "bgr"),
    [
        (1, 0, (0, 0, 255)),  # right: red
        (0, -1, (0, 255, 128)),  # up: yellow-green
        (-1, 0, (255, 255, 0)),  # left: cyan
        (0, 1, (255, 0, 128)),  # down: violet
        (0, 0, (255, 255, 255)),
        (np.nan, 0, (0, 0, 0)),
        (0.5, 0, (128, 128, 255)),
        (3, 0, (0, 0, 255)),
    ],
)
def test_colour_is_direction_and_length(u: float, v: float, bgr: tuple[int, int, int]) -> None:
    flow = np.full((128, 128, 2), (u, v), np.float32)
    np.testing.assert_allclose(flow_picture(flow, 1.0)[100, 100], bgr, atol=1)


@pytest.mark.parametrize(("px", "scale"), [(0.0, 0.25), (0.2, 0.25), (0.3, 0.5), (0.9, 1.0), (3.0, 4.0), (50.0, 8.0)])
def test_scale_of_the_flow_is_the_step_above(px: float, scale: float) -> None:
    flow = np.full((128, 128, 2), (px, 0), np.float32)
    flow[0, 0] = 100.0  # a stray vector does not set the scale
    assert flow_scale_px(flow) == scale


def test_scale_of_an_unknown_flow() -> None:
    assert flow_scale_px(np.full((128, 128, 2), np.nan, np.float32)) == 0.25


def test_flow_that_is_not_known_is_refused() -> None:
    with pytest.raises(DataError, match="could not be measured"):
        flow_part(material(flow=None))
    with pytest.raises(DataError, match="there are none"):
        pictures_part(material(images=()))


def test_eyes_are_black_in_all_three_inputs() -> None:
    landmarks = np.full((68, 2), 64.0, np.float32)
    landmarks[36:42] = [[25, 37], [31, 32], [38, 31], [50, 37], [38, 41], [31, 40]]
    landmarks[42:48] = [[78, 37], [90, 31], [97, 32], [106, 37], [97, 40], [90, 41]]
    event = material(landmarks68=landmarks, images=tuple(np.maximum(texture(), 60) for _ in range(41)))
    hidden = redact_eyes(event)
    # The eyes with a margin, and not the brows (about y 22) or the mouth.
    eyes = (slice(27, 46), slice(19, 112))
    for image in hidden.images:
        assert not image[eyes].any()
        assert image[:24].all() and image[52:].all()
    assert np.isnan(hidden.flow[eyes]).all() and np.isfinite(hidden.flow[52:]).all()
    scaled = (slice(50, 79), slice(36, 194))
    for picture in decoded_video(of_url(video_part(hidden))[1])[0]:
        assert picture[scaled].max() < 12  # as good as H.264 keeps black
    for part in [*pictures_part(hidden), flow_part(hidden)]:
        picture = cv2.imdecode(np.frombuffer(of_url(part)[1], np.uint8), cv2.IMREAD_COLOR)
        assert not picture[scaled].any()
    assert event.images[0].all() and np.isfinite(event.flow).all()


def test_eyes_are_black_without_landmarks_too() -> None:
    hidden = redact_eyes(material(landmarks68=None))
    assert not hidden.images[0][30:43, 25:103].any()


def test_inputs_by_name() -> None:
    assert parse_inputs("flow + oao") == ("oao", "flow")
    assert parse_inputs("video") == ("video",)
    with pytest.raises(UsageError, match="unknown; expected video, oao, flow"):
        parse_inputs("video,oao")
