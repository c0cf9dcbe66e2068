"""Any GenICam camera through harvesters and the GenTL producer (.cti file) of its maker (extra ``genicam``)."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megc_stream.capture.camera import Grab
from megc_stream.capture.features import configure
from megc_stream.errors import CaptureError, MissingExtraError, UsageError
from megc_stream.settings import CaptureSettings

__all__ = ["GenicamDevice", "GenicamFeatures", "camera_features", "find_genicam", "genicam_devices", "producers"]

_VARIABLE = "GENICAM_GENTL64_PATH"
_BUFFERS = 32  # with the producer; pictures are copied out of them at once
_EVENT_WAIT_MS = 50  # harvesters asks the producer in waits of this length; an arriving picture ends one at once


def load_harvesters() -> Any:
    """Return the module ``harvesters.core``.

    Raises
    ------
    MissingExtraError
        harvesters or genicam is not installed.
    """
    try:
        from harvesters import core
    except ImportError as error:
        raise MissingExtraError("harvesters", "genicam", "a GenICam camera") from error
    # It writes to stderr by itself; what it says there is said by an error or a count here.
    logging.getLogger(core.__name__).setLevel(logging.CRITICAL)
    return core


def producers(cti: Path | None) -> list[Path]:
    """Return the GenTL producers: ``cti``, else all .cti files in the folders that GENICAM_GENTL64_PATH names."""
    if cti is not None:
        return [cti]
    folders = [Path(folder) for folder in os.environ.get(_VARIABLE, "").split(os.pathsep) if folder]
    return [file for folder in folders for file in sorted(folder.glob("*.cti"))]


def genicam_devices(file: Path) -> list[tuple[str, str]]:
    """Return serial number and name of every camera that a producer sees.

    Raises
    ------
    MissingExtraError
        harvesters or genicam is not installed.
    CaptureError
        The producer is not there or cannot be loaded.
    """
    with _producer(file) as harvester:
        return [(str(info.serial_number), f"{info.vendor} {info.model}") for info in harvester.device_info_list]


def find_genicam(spec: str, settings: CaptureSettings) -> tuple[Path, str]:
    """Return producer and serial number of the camera that the part after ``genicam:`` means.

    Parameters
    ----------
    spec
        ``PRODUCER.cti``, ``PRODUCER.cti?serial=NUMBER``, or a serial number alone; "" or a producer alone where there
        is only one camera.
    settings
        ``camera.cti`` names the producer where ``spec`` does not.

    Raises
    ------
    MissingExtraError
        harvesters or genicam is not installed.
    CaptureError
        There is no producer or no such camera.
    UsageError
        The text is none of these forms, or leaves open which of several cameras is meant.
    """
    path, mark, query = spec.partition("?")
    if path.lower().endswith(".cti"):
        files = [Path(path)]
        serial = query.removeprefix("serial=")
        if mark and (serial == query or not serial):
            raise UsageError(f"genicam:{spec}: expected genicam:{path}?serial=NUMBER")
    else:
        load_harvesters()  # a producer is of no use without it
        files, serial = producers(settings.camera.cti), spec
        if not files:
            raise CaptureError(
                f"genicam:{spec}: no GenTL producer known; name the maker's .cti file (genicam:FILE.cti?serial=..., "
                f"capture.camera.cti) or its folder in {_VARIABLE}"
            )
    found = [(file, number) for file in files for number, _ in genicam_devices(file)]
    names = ", ".join(map(str, files))
    if not found:
        raise CaptureError(f"genicam:{spec}: {names} sees no camera; check power, cable and that the file fits them")
    meant = [camera for camera in found if serial in ("", camera[1])]
    serials = ", ".join(number for _, number in found)
    if not meant:
        raise CaptureError(f"genicam:{spec}: no camera with serial number {serial}; found: {serials}")
    if len(meant) > 1:
        raise UsageError(
            f"genicam:{spec}: several cameras found: {serials}; name one, e.g. genicam:{files[0]}?serial={meant[0][1]}"
        )
    return meant[0]


class GenicamFeatures:
    """The features of an opened camera."""

    def __init__(self, name: str, node_map: Any) -> None:
        from genicam import genapi

        self._name = name
        self._nodes = node_map
        self._usable = (genapi.EAccessMode.RO, genapi.EAccessMode.WO, genapi.EAccessMode.RW)

    def has(self, name: str) -> bool:
        """Return whether the camera has the feature and it can be read or written now."""
        with self._named(name):
            return self._nodes.has_node(name) and self._node(name).get_access_mode() in self._usable

    def get(self, name: str) -> Any:
        """Return the value of a feature."""
        with self._named(name):
            return self._node(name).value

    def set(self, name: str, value: bool | int | float | str) -> None:
        """Set a feature."""
        try:
            with self._named(name, f" = {value}"):
                self._node(name).value = value
        except (TypeError, AttributeError) as error:
            kind = type(value).__name__
            raise CaptureError(f"{self._name}: {name} = {value}: is {kind}, which this feature cannot be") from error

    def limits(self, name: str) -> tuple[float, float, float]:
        """Return minimum, maximum and step (0 where it has none) of a number."""
        with self._named(name):
            node = self._node(name)
            stepped = node.has_inc() if hasattr(node, "has_inc") else True
            return node.min, node.max, node.inc if stepped else 0

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the values that an enumeration can take now."""
        with self._named(name):
            return tuple(self._node(name).symbolics)

    def _node(self, name: str) -> Any:
        return getattr(self._nodes, name)

    def _named(self, feature: str, value: str = "") -> Any:
        return _errors(f"{self._name}: {feature}{value}")


@contextmanager
def camera_features(file: Path, serial: str) -> Iterator[GenicamFeatures]:
    """Open a camera for a moment, and give its features.

    Raises
    ------
    CaptureError
        The camera is not there, or in use.
    """
    with _producer(file) as harvester:
        _, acquirer = _acquirer(harvester, serial)
        try:
            yield GenicamFeatures(f"camera genicam:{serial}", acquirer.remote_device.node_map)
        finally:
            acquirer.destroy()


class GenicamDevice:
    """One GenICam camera, opened and configured.

    Every picture is copied once: the producer's buffers end with the connection, frames may live longer.

    Parameters
    ----------
    file, serial
        From :func:`find_genicam`.
    settings
        See ``CaptureSettings``.

    Raises
    ------
    MissingExtraError
        harvesters or genicam is not installed.
    CaptureError
        The camera is not there, in use, or refuses the settings.
    """

    def __init__(self, file: Path, serial: str, settings: CaptureSettings) -> None:
        self.name = f"camera genicam:{serial}"
        self._acquirer: Any = None
        self._incomplete = 0
        self._held = contextlib.ExitStack()
        try:
            harvester = self._held.enter_context(_producer(file))
            info, self._acquirer = _acquirer(harvester, serial)
            self._configure(info, settings)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start delivering pictures."""
        with _errors(self.name):
            self._acquirer.start()

    def trigger(self, timeout_s: float) -> bool:
        """Trigger one picture by software; the standard knows no way to wait until the camera is ready."""
        del timeout_s
        with _errors(self.name):
            self._acquirer.remote_device.node_map.TriggerSoftware.execute()
        return True

    def fetch(self, timeout_s: float) -> Grab | None:
        """Return the next picture, None where there is none within ``timeout_s``; raises where the camera is gone."""
        with _errors(self.name):
            buffer = self._acquirer.try_fetch(timeout=timeout_s)
            if buffer is None:
                if not self._incomplete:
                    return None
                self._incomplete -= 1
                return Grab(None)
            try:
                part = buffer.payload.components[0]
                height, width = part.height, part.width
                image = part.data[: height * width].reshape(height, width).copy()
                return Grab(image, self._optional(buffer.module, "frame_id"), self._tick(buffer.module))
            finally:
                buffer.queue()

    def close(self) -> None:
        """Give the camera back; may be called more than once."""
        # A camera that is gone makes its own release fail; what is left is freed with the producer.
        if self._acquirer is not None:
            with contextlib.suppress(CaptureError), _errors(self.name):
                self._acquirer.destroy()
            self._acquirer = None
        with contextlib.suppress(CaptureError):
            self._held.close()

    def _configure(self, info: Any, settings: CaptureSettings) -> None:
        acquirer = self._acquirer
        features = GenicamFeatures(self.name, acquirer.remote_device.node_map)
        done = configure(self.name, features, settings)
        self.width, self.height, self.fps, self.warnings = done.width, done.height, done.fps, done.warnings
        self.description = f"{info.vendor} {info.model}, Mono8 {self.width}x{self.height}"
        self.wraps16 = "GEV" in str(info.tl_type)
        self.tick_s, self.tick_bits = 1e-9, 64
        self._tick_hz = self._optional(acquirer.device, "timestamp_frequency")
        acquirer.num_buffers = _BUFFERS
        acquirer.timeout_period_on_update_event_data_call = _EVENT_WAIT_MS
        acquirer.add_callback(acquirer.Events.INCOMPLETE_BUFFER, _incomplete_callback(self._count_incomplete))

    def _count_incomplete(self) -> None:
        self._incomplete += 1

    def _tick(self, buffer: Any) -> int | None:
        """Return the time stamp in ns, None where the camera gives none."""
        stamp_ns = self._optional(buffer, "timestamp_ns")
        if stamp_ns:
            return int(stamp_ns)
        stamp = self._optional(buffer, "timestamp") if self._tick_hz else None
        return int(stamp) * 10**9 // int(self._tick_hz) if stamp else None

    def _optional(self, module: Any, name: str) -> Any:
        """Return a property of a GenTL module, None where the producer has no such information."""
        from genicam import gentl

        try:
            return getattr(module, name)
        except (gentl.GenericException, AttributeError):
            return None


_lock = threading.Lock()
_open: dict[Path, tuple[Any, int]] = {}  # Harvester of a producer, and how many use it


@contextmanager
def _producer(file: Path) -> Iterator[Any]:
    """Give the Harvester of a producer.

    A process can open a producer only once, and looking for cameras anew would end those in use: the list of cameras is
    as old as the first of the present uses.
    """
    file = file.resolve()
    with _lock:
        harvester, users = _open.get(file, (None, 0))
        if harvester is None:
            harvester = _load(file)
        _open[file] = (harvester, users + 1)
    try:
        yield harvester
    finally:
        with _lock:
            harvester, users = _open.pop(file)
            if users > 1:
                _open[file] = (harvester, users - 1)
            else:
                with _errors(str(file)):
                    harvester.reset()


def _acquirer(harvester: Any, serial: str) -> tuple[Any, Any]:
    """Return a camera's device information, and the camera opened."""
    name = f"camera genicam:{serial}"
    found = [info for info in harvester.device_info_list if info.serial_number == serial]
    if not found:
        raise CaptureError(f"{name}: not found; is it connected?")
    with _errors(name, "is it connected, and is another program using it?"):
        return found[0], harvester.create(found[0])


def _load(file: Path) -> Any:
    core = load_harvesters()
    if not file.is_file():
        raise CaptureError(f"{file}: no such GenTL producer; expected the .cti file of the camera's maker")
    harvester = core.Harvester()
    # A file that is none is passed over without a word unless validity is asked for.
    with _errors("GenTL producer", "expected a .cti file for this machine"):
        harvester.add_file(str(file), check_validity=True)
        harvester.update()
    return harvester


def _incomplete_callback(count: Any) -> Any:
    """Return harvesters' kind of callback that calls ``count``."""
    base: Any = load_harvesters().Callback

    class Incomplete(base):  # type: ignore[misc]
        def emit(self, context: object = None) -> None:
            del context
            count()

    return Incomplete()


@contextmanager
def _errors(what: str, advice: str = "") -> Iterator[None]:
    """Turn the exceptions of GenApi, GenTL and harvesters into CaptureError, in one line."""
    from genicam import genapi, gentl

    try:
        yield
    except (genapi.GenericException, gentl.GenericException, OSError, ValueError) as error:
        message = re.sub(r" : \w+ thrown.*", "", " ".join(str(error).split()))
        raise CaptureError(f"{what}: {message}{'; ' + advice if advice else ''}") from error
