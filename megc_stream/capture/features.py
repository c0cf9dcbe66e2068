"""Configuring a GenICam camera: what pylon and GenTL cameras have in common.

Names and units are those of the GenICam Standard Features Naming Convention, with the older names of GigE cameras
beside them; where a camera has both, the older one is the one in force (seen with pylon's emulation).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

from megc_stream.errors import CaptureError
from megc_stream.settings import CaptureSettings

__all__ = ["Capabilities", "Configured", "Features", "capabilities", "configure"]

_EXPOSURE = ("ExposureTimeAbs", "ExposureTime")  # microseconds
_GAIN = ("Gain", "GainAbs", "GainRaw")
_RATE = ("AcquisitionFrameRateAbs", "AcquisitionFrameRate")
_RESULTING = (
    "ResultingFrameRateAbs",
    "ResultingFrameRate",
    "BslResultingAcquisitionFrameRate",
    "AcquisitionResultingFrameRate",
)
_RATE_TOLERANCE = 0.995  # cameras round rates to their own steps


class Features(Protocol):
    """The features of one camera by name; SDK errors come out as CaptureError."""

    def has(self, name: str) -> bool:
        """Return whether the camera has the feature and it can be read or written now."""
        ...

    def get(self, name: str) -> Any:
        """Return the value of a feature."""
        ...

    def set(self, name: str, value: bool | int | float | str) -> None:
        """Set a feature."""
        ...

    def limits(self, name: str) -> tuple[float, float, float]:
        """Return minimum, maximum and step (0 where it has none) of a number."""
        ...

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the values that an enumeration can take now."""
        ...


@dataclass(frozen=True, slots=True)
class Configured:
    """What the camera does after :func:`configure`."""

    width: int
    height: int
    fps: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a camera can do: sizes (px), rates, exposures, gains in words ("" where it has none), the rest by name."""

    size: str
    rates: str
    pixel_formats: tuple[str, ...]
    exposure: str
    gain: str
    triggers: tuple[str, ...]


def configure(name: str, features: Features, settings: CaptureSettings) -> Configured:
    """Set pixel format (Mono8), region, exposure, gain, trigger and rate, and look at what came of it.

    Parameters
    ----------
    name
        What messages call the camera.
    features
        Its features.
    settings
        What is asked for.

    Returns
    -------
    Configured
        Size in px, rate in frames per second (None where neither camera nor settings know it), and warnings.

    Raises
    ------
    CaptureError
        The camera has no Mono8 or lacks a feature that is asked for, a value is out of its range, the exposure is
        longer than a frame, or camera and link cannot carry the rate.
    """
    asked = settings.camera
    for feature, value in asked.features.items():
        if not features.has(feature):
            raise CaptureError(f"{name}: has no feature '{feature}' (capture.camera.features); leave it out")
        _set_further(name, features, feature, value)
    _set_mono8(name, features)
    _set_region(name, features, "Width", "OffsetX", asked.width, asked.offset_x)
    _set_region(name, features, "Height", "OffsetY", asked.height, asked.offset_y)
    warnings = [
        *_set_level(name, features, "exposure_s", _EXPOSURE, "ExposureAuto", asked.exposure_s, 1e6),
        *_set_level(name, features, "gain", _GAIN, "GainAuto", asked.gain, 1.0),
    ]
    _set_trigger(name, features, asked.trigger)
    fps = _set_rate(name, features, settings)
    return Configured(int(features.get("Width")), int(features.get("Height")), fps, tuple(warnings))


def capabilities(features: Features) -> Capabilities:
    """Return what a camera can do."""
    size = "x".join(f"{limits[0]:g}..{limits[1]:g}" for limits in map(features.limits, ("Width", "Height")))
    return Capabilities(
        size=size,
        rates=_range(features, _RATE, 1.0, " fps"),
        pixel_formats=features.choices("PixelFormat"),
        exposure=_range(features, _EXPOSURE, 1e-6, " s"),
        gain=_range(features, _GAIN, 1.0, ""),
        triggers=features.choices("TriggerSource") if features.has("TriggerSource") else (),
    )


def _range(features: Features, names: tuple[str, ...], unit: float, name: str) -> str:
    """Return the least and the greatest value of the first of some features that there is, in words."""
    feature = _first(features, names)
    if feature is None:
        return ""
    least, most, _ = features.limits(feature)
    return f"{least * unit:g}..{most * unit:g}{name}"


def _first(features: Features, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if features.has(name)), None)


def _set_further(name: str, features: Features, feature: str, value: bool | int | float | str) -> None:
    """Set a feature of any kind; where that fails, and it is an enumeration, say what it can be."""
    try:
        features.set(feature, value)
    except CaptureError as error:
        choices: tuple[str, ...] = ()
        with contextlib.suppress(CaptureError, AttributeError):  # other kinds have none
            choices = features.choices(feature)
        if not choices or value in choices:
            raise
        raise CaptureError(
            f"{name}: {feature} = {value} (capture.camera.features), expected one of {', '.join(choices)}"
        ) from error


def _set_mono8(name: str, features: Features) -> None:
    formats = features.choices("PixelFormat")
    if "Mono8" not in formats:
        raise CaptureError(f"{name}: cannot give Mono8, only {', '.join(formats)}; expected a monochrome 8-bit format")
    features.set("PixelFormat", "Mono8")


def _set_region(
    name: str, features: Features, extent: str, offset: str, asked: int | None, asked_offset: int | None
) -> None:
    """Set one side of the region; the offset goes to 0 first, since it limits the extent."""
    if asked is None and asked_offset is None:
        return
    key = f"capture.camera.{extent.lower()}"
    if features.has(offset):
        features.set(offset, 0)
    if asked is not None:
        least, most, step = features.limits(extent)
        if not least <= asked <= most:
            raise CaptureError(f"{name}: {key} = {asked}, expected {least:g} to {most:g} px")
        features.set(extent, int(asked - (asked - least) % step if step else asked))
    if not features.has(offset):
        if asked_offset:
            raise CaptureError(f"{name}: has no {offset}; leave capture.camera.offset_{offset[-1].lower()} out")
        return
    least, most, step = features.limits(offset)
    place = (least + most) // 2 if asked_offset is None else asked_offset
    if not least <= place <= most:
        key = f"capture.camera.offset_{offset[-1].lower()}"
        raise CaptureError(f"{name}: {key} = {place}, expected {least:g} to {most:g} px at this size")
    features.set(offset, int(place - (place - least) % step if step else place))


def _set_level(
    name: str, features: Features, key: str, names: tuple[str, ...], auto: str, asked: float | None, units: float
) -> list[str]:
    """Set exposure or gain by hand, or say that the camera sets it by itself."""
    automatic = features.has(auto) and features.get(auto) != "Off"
    if asked is None:
        if automatic:
            return [
                f"{name}: {auto} is on: brightness and, in the dark, rate change by themselves; "
                f"set capture.camera.{key}"
            ]
        return []
    if automatic:
        features.set(auto, "Off")
    feature = _first(features, names)
    if feature is None:
        raise CaptureError(f"{name}: has no {' or '.join(names)}; leave capture.camera.{key} out")
    least, most, _ = features.limits(feature)
    if not least <= asked * units <= most:
        raise CaptureError(f"{name}: capture.camera.{key} = {asked:g}, expected {least / units:g} to {most / units:g}")
    features.set(feature, round(asked * units) if feature.endswith("Raw") else asked * units)
    return []


def _set_trigger(name: str, features: Features, trigger: str) -> None:
    if features.has("TriggerSelector") and "FrameStart" in features.choices("TriggerSelector"):
        features.set("TriggerSelector", "FrameStart")
    if not features.has("TriggerMode"):
        if trigger != "off":
            raise CaptureError(f"{name}: has no trigger; set capture.camera.trigger to off")
        return
    if trigger == "off":
        features.set("TriggerMode", "Off")
        return
    source = "Software" if trigger == "software" else trigger
    sources = features.choices("TriggerSource")
    if source not in sources:
        inputs = ", ".join(source for source in sources if source != "Software") or "none"
        raise CaptureError(
            f"{name}: capture.camera.trigger = {trigger} is no trigger source of this camera; set it to off, to "
            f"software, or to the input that the pulses come to, one of: {inputs}"
        )
    features.set("TriggerMode", "On")
    features.set("TriggerSource", source)


def _set_rate(name: str, features: Features, settings: CaptureSettings) -> float | None:
    """Ask for the rate; return what the camera will do."""
    feature = _first(features, _RATE)
    exposure = _first(features, _EXPOSURE)
    free = settings.camera.trigger == "off"
    fps = settings.fps
    if fps is not None and exposure is not None and features.get(exposure) * 1e-6 > 1 / fps:
        raise CaptureError(
            f"{name}: an exposure of {features.get(exposure) * 1e-3:g} ms is longer than a frame at {fps:g} fps "
            f"({1e3 / fps:g} ms); set capture.camera.exposure_s below {1 / fps:g}"
        )
    if not free:
        return fps
    if fps is not None and feature is not None:
        for switch in ("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled"):
            if features.has(switch):
                features.set(switch, True)
        least, most, _ = features.limits(feature)
        if not least <= fps <= most:
            raise CaptureError(f"{name}: capture.fps = {fps:g}, expected {least:g} to {most:g} with these settings")
        features.set(feature, fps)
    resulting = _first(features, _RESULTING) or feature
    obtained = None if resulting is None else float(features.get(resulting))
    if obtained is not None and exposure is not None:
        # Not every camera counts its own exposure in: pylon's emulation names 200 fps with 10 ms.
        obtained = min(obtained, 1e6 / float(features.get(exposure)))
    if fps is not None and obtained is not None and obtained < _RATE_TOLERANCE * fps:
        raise CaptureError(
            f"{name}: can do {obtained:.4g} of the {fps:g} fps asked for at "
            f"{features.get('Width')}x{features.get('Height')}; ask for less, use a smaller region, or a faster link"
        )
    return obtained if obtained is not None else fps
