"""Basler cameras through pypylon (extra ``pylon``), its camera emulation included (``PYLON_CAMEMU=1``)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megc_stream.capture.camera import Grab
from megc_stream.capture.features import configure
from megc_stream.errors import CaptureError, MissingExtraError, UsageError
from megc_stream.records import frames_of
from megc_stream.settings import CaptureSettings

__all__ = ["PylonDevice", "PylonFeatures", "camera_features", "find_pylon", "pylon_devices"]

_NO_BLOCK_ID = 2**64 - 1
_SPARE_BUFFERS = 16  # with the consumer beyond what the live queue may hold; and as many that are never lent
_EVENTS_KEPT = 256
_EXPOSURE_END = "EventExposureEndTimestamp"


def load_pylon() -> Any:
    """Return the module ``pypylon.pylon``.

    Raises
    ------
    MissingExtraError
        pypylon is not installed.
    """
    try:
        with warnings.catch_warnings():
            # What its import warns of (types of SWIG without __module__) crashes it where warnings are errors.
            warnings.simplefilter("ignore")
            from pypylon import pylon
    except ImportError as error:
        raise MissingExtraError("pypylon", "pylon", "a Basler camera") from error
    return pylon


def pylon_devices() -> list[tuple[str, str, str]]:
    """Return serial number, name and user-defined name of every Basler camera found, emulated ones included.

    Raises
    ------
    MissingExtraError
        pypylon is not installed.
    CaptureError
        The transport layers cannot be asked.
    """
    pylon = load_pylon()
    with _errors("pylon"):
        return [
            (info.GetSerialNumber(), f"{info.GetVendorName()} {info.GetModelName()}", info.GetUserDefinedName())
            for info in pylon.TlFactory.GetInstance().EnumerateDevices()
        ]


def find_pylon(name: str) -> str:
    """Return the serial number of the camera that the part after ``pylon:`` means.

    Parameters
    ----------
    name
        A serial number, a camera's user-defined name, or an index into the cameras found; "" where there is only one.

    Raises
    ------
    MissingExtraError
        pypylon is not installed.
    CaptureError
        There is no such camera.
    UsageError
        The name is empty and there are several cameras.
    """
    devices = pylon_devices()
    serials = [serial for serial, _, _ in devices]
    if not serials:
        raise CaptureError(
            f"pylon:{name}: no Basler camera found; check power and cable, for GigE also network and firewall"
        )
    found = ", ".join(serials)
    if not name:
        if len(serials) > 1:
            raise UsageError(f"pylon: several cameras found: {found}; name one, e.g. pylon:{serials[0]}")
        return serials[0]
    if name in serials:
        return name
    named = [serial for serial, _, given in devices if given == name]
    if len(named) == 1:
        return named[0]
    if re.fullmatch(r"[0-9]{1,2}", name) and int(name) < len(serials):
        return serials[int(name)]
    raise CaptureError(f"pylon:{name}: no such camera; found: {found} (or 0 to {len(serials) - 1} by index)")


class PylonFeatures:
    """The features of an opened Basler camera."""

    def __init__(self, name: str, nodes: Any) -> None:
        self._name = name
        self._nodes = nodes

    def has(self, name: str) -> bool:
        """Return whether the camera has the feature and it can be read or written now."""
        with self._named(name):
            node = self._nodes.GetNode(name)
            return node is not None and bool(node.IsReadable() or node.IsWritable())

    def get(self, name: str) -> Any:
        """Return the value of a feature."""
        with self._named(name):
            return self._nodes.GetNode(name).GetValue()

    def set(self, name: str, value: bool | int | float | str) -> None:
        """Set a feature."""
        try:
            with self._named(name, f" = {value}"):
                self._nodes.GetNode(name).SetValue(value)
        except (TypeError, AttributeError) as error:
            kind = type(value).__name__
            raise CaptureError(f"{self._name}: {name} = {value}: is {kind}, which this feature cannot be") from error

    def limits(self, name: str) -> tuple[float, float, float]:
        """Return minimum, maximum and step (0 where it has none) of a number."""
        with self._named(name):
            node = self._nodes.GetNode(name)
            step = node.GetInc() if hasattr(node, "GetInc") and getattr(node, "HasInc", lambda: True)() else 0
            return node.GetMin(), node.GetMax(), step

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the values that an enumeration can take now."""
        with self._named(name):
            return tuple(self._nodes.GetNode(name).GetSymbolics())

    def _named(self, feature: str, value: str = "") -> Any:
        return _errors(f"{self._name}: {feature}{value}")


@contextmanager
def camera_features(serial: str) -> Iterator[PylonFeatures]:
    """Open a camera for a moment, and give its features.

    Raises
    ------
    CaptureError
        The camera is not there, or in use.
    """
    name = f"camera pylon:{serial}"
    camera = _camera(load_pylon(), serial)
    try:
        with _errors(name, "is another program using it?"):
            camera.Open()
        yield PylonFeatures(name, camera.GetNodeMap())
    finally:
        camera.DestroyDevice()


def _camera(pylon: Any, serial: str) -> Any:
    """Return the camera, not opened yet."""
    wanted = pylon.DeviceInfo()
    wanted.SetSerialNumber(serial)
    with _errors(f"camera pylon:{serial}", "is it connected, and is another program using it?"):
        return pylon.InstantCamera(pylon.TlFactory.GetInstance().CreateDevice(wanted))


class PylonDevice:
    """One Basler camera, opened and configured.

    Frames are views of the driver's buffers, without a copy: a buffer goes back to the driver when the last array over
    it is gone, also after the camera is closed. Where a consumer keeps more frames than the live queue holds and 16,
    the rest are copied, so that it cannot starve the camera.

    Parameters
    ----------
    serial
        Serial number, from :func:`find_pylon`.
    settings
        See ``CaptureSettings``.

    Raises
    ------
    MissingExtraError
        pypylon is not installed.
    CaptureError
        The camera is not there, in use, or refuses the settings.
    """

    def __init__(self, serial: str, settings: CaptureSettings) -> None:
        self._pylon = load_pylon()
        self.name = f"camera pylon:{serial}"
        self._camera = _camera(self._pylon, serial)
        try:
            self._events = _exposure_events(self._pylon, self._camera)
            with _errors(self.name, "is another program using it?"):
                self._camera.Open()
            self._configure(settings)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start delivering pictures, every one in the order in which it was taken."""
        with _errors(self.name):
            self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)

    def trigger(self, timeout_s: float) -> bool:
        """Trigger one picture by software; False where the camera is not ready for that within ``timeout_s``."""
        with _errors(self.name):
            camera = self._camera
            if camera.CanWaitForFrameTriggerReady() and not camera.WaitForFrameTriggerReady(
                round(timeout_s * 1e3), self._pylon.TimeoutHandling_Return
            ):
                return False
            camera.ExecuteSoftwareTrigger()
        return True

    def fetch(self, timeout_s: float) -> Grab | None:
        """Return the next picture, None where there is none within ``timeout_s``; raises where the camera is gone."""
        with _errors(self.name):
            camera = self._camera
            result = camera.RetrieveResult(round(timeout_s * 1e3), self._pylon.TimeoutHandling_Return)
            if not result.IsValid():
                if not camera.IsPylonDeviceAttached() or camera.IsCameraDeviceRemoved():
                    raise CaptureError(f"{self.name}: was removed")
                if not camera.IsGrabbing():
                    raise CaptureError(f"{self.name}: stopped delivering")
                return None
            if not result.GrabSucceeded():
                return Grab(None, why=" ".join(result.GetErrorDescription().split()))
            block_id = result.GetBlockID()
            known = block_id != _NO_BLOCK_ID and not (block_id == 0 and self._zero_means_none)
            tick = result.GetTimeStamp() or self._events.pop(block_id)
            return Grab(self._image(result), block_id if known else None, tick)

    def close(self) -> None:
        """Give the camera back; may be called more than once."""
        self._camera.DestroyDevice()

    def _configure(self, settings: CaptureSettings) -> None:
        camera = self._camera
        info = camera.GetDeviceInfo()
        features = PylonFeatures(self.name, camera.GetNodeMap())
        done = configure(self.name, features, settings)
        self.width, self.height, self.fps, self.warnings = done.width, done.height, done.fps, done.warnings
        self.description = f"{info.GetVendorName()} {info.GetModelName()}, Mono8 {self.width}x{self.height}"
        gige = bool(camera.IsGigE())
        self.wraps16 = gige
        self._zero_means_none = gige
        frequency = "GevTimestampTickFrequency"
        self.tick_s = 1 / features.get(frequency) if gige and features.has(frequency) else 1e-9
        self.tick_bits = 64
        buffers = frames_of(settings.live_queue_s, self.fps or 0.0) + _SPARE_BUFFERS
        self._lent = _Lent(buffers)
        with _errors(self.name):
            camera.MaxNumBuffer.SetValue(buffers + _SPARE_BUFFERS)
            camera.OutputQueueSize.SetValue(buffers + _SPARE_BUFFERS)
            if self._events.wanted and features.has("EventSelector"):
                camera.EventSelector.SetValue("ExposureEnd")
                camera.EventNotification.SetValue("On")

    def _image(self, result: Any) -> NDArray[np.uint8]:
        height, width, padding = result.GetHeight(), result.GetWidth(), result.GetPaddingX()
        view = np.frombuffer(result.GetImageMemoryView(), np.uint8, count=height * (width + padding))
        if padding:
            return view.reshape(height, width + padding)[:, :width].copy()
        if self._lent.count >= self._lent.most:
            return view.reshape(height, width).copy()
        return np.asarray(_Loan(result, view, (height, width), self._lent))


class _Lent:
    """How many of the driver's buffers are with consumers, and how many may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


class _Loan:
    """Keeps a grab result, and with it the driver's buffer, for as long as the array over it lives.

    numpy takes this object as the base of the array; a view of the buffer alone would not keep the result.
    """

    def __init__(self, result: Any, view: NDArray[np.uint8], shape: tuple[int, int], lent: _Lent) -> None:
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": "|u1",
            "data": (view.ctypes.data, False),
        }
        self._result = result
        self._lent = lent
        lent.count += 1

    def __del__(self) -> None:
        self._lent.count -= 1


class _Events:
    """Time stamps of exposure events by frame id; they arrive before the frames, in the thread that fetches these."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._ticks: dict[int, int] = {}

    def put(self, frame_id: int, tick: int) -> None:
        self._ticks[frame_id] = tick
        if len(self._ticks) > _EVENTS_KEPT:
            del self._ticks[next(iter(self._ticks))]

    def pop(self, frame_id: int) -> int | None:
        return self._ticks.pop(frame_id, None)


def _exposure_events(pylon: Any, camera: Any) -> _Events:
    """Collect exposure events where the camera's frames carry no time stamp: only the emulation's do not."""
    events = _Events(wanted=not (camera.IsGigE() or camera.IsUsb()))
    if not events.wanted:
        return events

    class Handler(pylon.CameraEventHandler):  # type: ignore[misc]
        def OnCameraEvent(self, camera: Any, identifier: int, node: Any) -> None:
            events.put(camera.EventExposureEndFrameID.GetValue(), node.GetValue())

    with _errors("pylon"):
        camera.GrabCameraEvents.SetValue(True)
        # Registered before the camera is opened, otherwise nothing comes; the camera destroys the handler.
        handler = Handler()
        handler.__disown__()
        camera.RegisterCameraEventHandler(
            handler, _EXPOSURE_END, 0, pylon.RegistrationMode_Append, pylon.Cleanup_Delete
        )
    return events


@contextmanager
def _errors(what: str, advice: str = "") -> Iterator[None]:
    """Turn the SDK's exceptions into CaptureError, in one line."""
    from pypylon import genicam

    try:
        yield
    except genicam.GenericException as error:
        message = re.sub(r" : \w+ thrown.*", "", " ".join(str(error).split()))
        raise CaptureError(f"{what}: {message}{'; ' + advice if advice else ''}") from error
