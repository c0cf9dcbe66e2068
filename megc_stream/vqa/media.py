"""What a vision-language model is shown of an event: a sampled video, three pictures, a picture of the motion.

The three inputs of the challenge's baseline (MEGC2025), made of face crops and of nothing else:

- ``video``: an mp4 file (H.264) of up to 16 crops from onset to offset, each at its own time;
- ``oao``: the crops at onset, apex and offset, as three PNG pictures;
- ``flow``: the optical flow from onset to apex, as one PNG picture: the colour is the direction, its strength the
  length, full at a length that :func:`flow_scale_px` gives and the prompt states.

:func:`redact_eyes` blacks out the eyes in all of them.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal, cast

import av
import av.error
import cv2
import msgspec
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from megc_stream.errors import DataError, OutputError, UsageError
from megc_stream.vqa.material import Material

__all__ = [
    "FLOW_COLOURS",
    "INPUTS",
    "InputKind",
    "Video",
    "encode_video",
    "flow_part",
    "flow_picture",
    "flow_scale_px",
    "known_flow",
    "parse_inputs",
    "pictures",
    "pictures_part",
    "redact_eyes",
    "sample_video",
    "video_part",
    "video_request",
]

InputKind = Literal["video", "oao", "flow"]

INPUTS: tuple[InputKind, ...] = ("video", "oao", "flow")
"""The inputs, in the order in which a combination is shown."""

FLOW_COLOURS = "red to the right of the picture, yellow-green up, cyan to the left, violet down"
"""The directions of :func:`flow_picture`, in words for a prompt."""

# A multiple of the 28 px that a visual token of Qwen2.5-VL covers: 64 tokens a picture, and nothing is resized there.
_SIDE_PX = 224
_MOST_FRAMES = 16
_TIME_BASE = Fraction(1, 90_000)
# Near lossless: at crf 12 a motion of half a pixel has lost a fifth of its length.
_CRF = "4"
_FLOW_SCALES_PX = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Around the eyes: to the brows' lower edge and beyond the corners; a blink and half a pixel of jitter stay inside.
_EYE_MARGIN_X_PX, _EYE_MARGIN_Y_PX = 7.0, 5.0
_EYES = slice(36, 48)
# Left, top, right, bottom of the bar where no landmarks are known: the alignment puts the eyes at (39, 36), (89, 36).
_NOMINAL_EYES_PX = (20, 28, 108, 44)


class Video(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Crops of one size, uint8 (H, W) grey, and their times in seconds, increasing from 0.

    ``last_s`` is how long a lone image is shown.
    """

    images: tuple[NDArray[np.uint8], ...]
    times_s: tuple[float, ...]
    last_s: float


def parse_inputs(text: str) -> tuple[InputKind, ...]:
    """Return the inputs of "oao+flow" and the like, each once, in the order in which they are shown.

    Raises
    ------
    UsageError
        A name is none of :data:`INPUTS`.
    """
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in INPUTS:
            raise UsageError(f"input '{name}' of '{text}': unknown; expected {', '.join(INPUTS)}, joined by '+'")
    return tuple(one for one in INPUTS if one in names)


def redact_eyes(material: Material) -> Material:
    """Return the material with the eyes blacked out: a bar over both, in every crop and in the flow.

    The bar covers the eyes' landmarks with a margin, and at least where the alignment puts the eyes. The flow under it
    becomes NaN, which :func:`flow_picture` paints black; it was measured before, so the bar itself makes no motion.
    """
    left, top, right, bottom = _NOMINAL_EYES_PX
    if material.landmarks68 is not None:
        eyes = material.landmarks68[_EYES]
        left = min(left, math.floor(float(eyes[:, 0].min()) - _EYE_MARGIN_X_PX))
        right = max(right, math.ceil(float(eyes[:, 0].max()) + _EYE_MARGIN_X_PX))
        top = min(top, math.floor(float(eyes[:, 1].min()) - _EYE_MARGIN_Y_PX))
        bottom = max(bottom, math.ceil(float(eyes[:, 1].max()) + _EYE_MARGIN_Y_PX))
    bar = slice(max(0, top), bottom + 1), slice(max(0, left), right + 1)
    images = []
    for image in material.images:
        image = image.copy()
        image[bar] = 0
        images.append(image)
    flow = material.flow
    if flow is not None:
        flow = flow.copy()
        flow[bar] = np.nan
    return msgspec.structs.replace(material, images=tuple(images), flow=flow)


def sample_video(material: Material) -> Video:
    """Return up to 16 crops from onset to offset, evenly spread, the apex among them, with their native times.

    Raises
    ------
    DataError
        The material has no images.
    """
    _need_images(material, "video")
    first, last = material.onset, max(material.onset, material.offset)
    count = min(_MOST_FRAMES, last - first + 1)
    chosen = sorted({round(first + (last - first) * n / max(1, count - 1)) for n in range(count)})
    if first < material.apex < last and material.apex not in chosen:
        nearest = min(range(1, len(chosen) - 1), key=lambda n: abs(chosen[n] - material.apex))
        chosen[nearest] = material.apex
    begin_s = material.times_s[first]
    return Video(
        images=tuple(material.images[n] for n in chosen),
        times_s=tuple(material.times_s[n] - begin_s for n in chosen),
        last_s=1.0 / material.fps,
    )


def encode_video(video: Video, side_px: int = _SIDE_PX) -> bytes:
    """Return a video as an mp4 file (H.264, yuv420p, grey), every frame shown from its own time on.

    Raises
    ------
    OutputError
        It cannot be encoded: no image, images of several sizes, or times that do not increase.
    """
    ticks = [round((time_s - video.times_s[0]) / _TIME_BASE) for time_s in video.times_s]
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    if not video.images or any(step <= 0 for step in steps):
        raise OutputError(
            f"video of {len(video.images)} frames at {[round(time, 4) for time in video.times_s[:4]]} s ...: "
            "expected at least one frame, and times that increase"
        )
    # Between sampled frames lie frames that were left out: the last one lasts as long as the others on average, so that
    # a reader that divides frames by duration gets the rate.
    last = round(sum(steps) / len(steps)) if steps else max(1, round(video.last_s / _TIME_BASE))
    duration_of = dict(zip(ticks, [*steps, last], strict=True))
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4") as container:
            # No B-frames: frames are decoded in the order in which they are shown.
            options = {"crf": _CRF, "preset": "veryfast", "bf": "0"}
            stream = container.add_stream("libx264", options=options)
            stream.width = stream.height = side_px
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = _TIME_BASE
            stream.codec_context.thread_count = 1

            def write(packets: Iterable[Packet[Any]]) -> None:
                for packet in packets:
                    packet.duration = duration_of.get(packet.pts or 0, last)
                    container.mux(packet)

            for image, tick in zip(video.images, ticks, strict=True):
                frame = av.VideoFrame.from_ndarray(_enlarged(image, side_px), format="gray")
                frame.pts, frame.time_base = tick, _TIME_BASE
                write(stream.encode(frame))
            write(stream.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"video of {len(video.images)} frames: cannot be encoded as mp4 ({error})") from error
    return file.getvalue()


def pictures(material: Material) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the crops at onset, apex and offset, (224, 224) uint8 grey.

    Raises
    ------
    DataError
        The material has no images.
    """
    _need_images(material, "oao")
    onset, apex, offset = (
        _enlarged(material.images[index], _SIDE_PX) for index in (material.onset, material.apex, material.offset)
    )
    return onset, apex, offset


def flow_scale_px(flow: NDArray[np.float32]) -> float:
    """Return the motion that is painted in full colour: the step of 0.25, 0.5, 1, 2, 4, 8 px above almost all of it.

    Taken by the length that 1 % of the flow exceeds; px of the crop.
    """
    lengths = np.hypot(flow[..., 0], flow[..., 1])
    known = lengths[np.isfinite(lengths)]
    strong = float(np.percentile(known, 99)) if known.size else 0.0
    return next((scale for scale in _FLOW_SCALES_PX if strong <= scale), _FLOW_SCALES_PX[-1])


def flow_picture(flow: NDArray[np.float32], scale_px: float) -> NDArray[np.uint8]:
    """Paint a flow: the hue is its direction, the saturation its length.

    Parameters
    ----------
    flow
        (H, W, 2) float32, px; NaN where it is not known.
    scale_px
        Length of full saturation; longer vectors look the same.

    Returns
    -------
    ndarray
        (224, 224, 3) uint8 BGR: red to the right (hue 0), yellow-green up (90 degrees), cyan to the left, violet down;
        white where nothing moves, black where the flow is not known.
    """
    known = np.isfinite(flow).all(axis=-1)
    u, v = (np.where(known, flow[..., axis], 0.0).astype(np.float32) for axis in (0, 1))
    # Rows of a picture count downwards, angles of a colour wheel upwards.
    hue_deg = np.degrees(np.arctan2(-v, u)) % 360.0
    saturation = np.minimum(np.hypot(u, v) / np.float32(scale_px), 1.0)
    hsv = np.stack([hue_deg, saturation, known.astype(np.float32)], axis=-1).astype(np.float32)
    bgr = cast("NDArray[np.float32]", cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    painted = np.round(bgr * 255).astype(np.uint8)
    return cast("NDArray[np.uint8]", cv2.resize(painted, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_NEAREST))


def video_part(material: Material) -> dict[str, Any]:
    """Return the sampled video as a content part of the OpenAI API (``video_url``, as vLLM takes it)."""
    return {"type": "video_url", "video_url": {"url": _data_url("video/mp4", encode_video(sample_video(material)))}}


def pictures_part(material: Material) -> list[dict[str, Any]]:
    """Return the pictures at onset, apex and offset as three content parts (``image_url``)."""
    return [_image_part(picture) for picture in pictures(material)]


def flow_part(material: Material) -> dict[str, Any]:
    """Return the picture of the flow as a content part, at the scale of :func:`flow_scale_px`.

    Raises
    ------
    DataError
        The material has no flow.
    """
    flow = known_flow(material)
    return _image_part(flow_picture(flow, flow_scale_px(flow)))


def known_flow(material: Material) -> NDArray[np.float32]:
    """Return the flow of a material.

    Raises
    ------
    DataError
        It has none, the face having been lost between onset and apex for example.
    """
    if material.flow is None:
        raise DataError(
            f"{material.video}: input 'flow' needs the motion from onset to apex, which could not be measured; "
            "ask with 'video' or 'oao'"
        )
    return material.flow


def video_request() -> dict[str, Any]:
    """Return what a request with a video says beside the messages, for vLLM: all frames of it are to be used.

    vLLM's own sampler for this architecture takes 2 frames a second and never more than 30, so 4 frames of a
    micro-expression; its plain one takes all. It obeys where it was started with ``--trust-request-mm-kwargs``.
    """
    return {"media_io_kwargs": {"video": {"num_frames": -1, "video_backend": "opencv"}}}


def _need_images(material: Material, wanted: str) -> None:
    if not material.images:
        raise DataError(f"{material.video}: input '{wanted}' needs face crops, and there are none")


def _enlarged(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    return cast("NDArray[np.uint8]", cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_CUBIC))


def _image_part(image: NDArray[np.uint8]) -> dict[str, Any]:
    _, encoded = cv2.imencode(".png", image)
    return {"type": "image_url", "image_url": {"url": _data_url("image/png", encoded.tobytes())}}


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
