"""The camera SDKs' own emulations: pylon's emulated camera, and the GenTL simulator of the genicam package."""

from __future__ import annotations

from pathlib import Path

import pytest

from megc_stream.capture.camera import Grab
from megc_stream.capture.genicam import GenicamDevice, load_harvesters
from megc_stream.capture.pylon import PylonDevice, load_pylon
from megc_stream.clock import ManualClock
from megc_stream.errors import MissingExtraError
from megc_stream.settings import CaptureSettings


def need_pylon() -> None:
    try:
        load_pylon()
    except MissingExtraError as error:
        pytest.skip(str(error))


def producer() -> Path:
    """Return the simulator's .cti file: three cameras with serial numbers 0, 1 and 2."""
    try:
        load_harvesters()
    except MissingExtraError as error:
        pytest.skip(str(error))
    import genicam

    return Path(genicam.__file__).with_name("viky.cti")


def showing(settings: CaptureSettings, folder: Path) -> CaptureSettings:
    """Return settings with which pylon's emulated camera shows the images of a folder, in the order of their names."""
    features = {"TestImageSelector": "Off", "ImageFilename": str(folder), "ImageFileMode": "On"}
    camera = settings.camera.model_copy(update={"features": features})
    return settings.model_copy(update={"camera": camera})


def one_picture_a_period(monkeypatch: pytest.MonkeyPatch, clock: ManualClock, fps: float) -> None:
    """Let the manual clock go on by one period with every picture, however long the SDK takes."""
    for device in (PylonDevice, GenicamDevice):
        fetch = device.fetch

        def fetch_and_advance(
            self: PylonDevice | GenicamDevice, timeout_s: float, fetch: object = fetch
        ) -> Grab | None:
            grab = fetch(self, timeout_s)  # type: ignore[operator]
            if grab is not None and grab.image is not None:
                clock.advance_s(1 / fps)
            return grab

        monkeypatch.setattr(device, "fetch", fetch_and_advance)


def cameras_plugged_in(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let pylon find so many emulated cameras from now on."""
    need_pylon()
    monkeypatch.setenv("PYLON_CAMEMU", str(count))
