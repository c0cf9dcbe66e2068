"""``megc-stream doctor``."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import sys
from typing import Any

from megc_stream import __version__
from megc_stream.cli.console import report_json, say
from megc_stream.errors import MegcError

__all__ = ["doctor_command", "examine"]

_EXTRAS = {
    "skimage": ("demo", "the demo's portrait"),
    "torch": ("train", "training of models"),
    "mediapipe": ("mediapipe", "--face mediapipe, in an environment of its own"),
    "pypylon": ("pylon", "Basler cameras"),
    "harvesters": ("genicam", "any GenICam camera"),
}


def examine() -> dict[str, Any]:
    """Return what is installed and what is missing; ``problems`` lists what keeps the default from working."""
    import cv2
    import onnxruntime

    from megc_stream.capture.listing import list_cameras
    from megc_stream.models import installed_models, verify_model
    from megc_stream.output.run_record import environment

    problems: list[str] = []
    models: dict[str, str] = {}
    for name, path in installed_models().items():
        checked = verify_model(name, path)
        models[name] = "damaged" if checked.problem else checked.sha256
        if checked.problem:
            problems.append(f"model {name}: {checked.problem}")
    needed = ("mediapipe-face-detector", "mediapipe-face-mesh", "mean-synthetic")
    problems.extend(f"model {name}: missing; reinstall megc-stream" for name in needed if name not in models)
    return {
        "megc_stream": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count() or 1,
        "packages": dict(environment().packages),
        "opencv_flow": hasattr(cv2, "optflow"),
        "providers": onnxruntime.get_available_providers(),
        "cameras": [dataclasses.asdict(camera) for camera in list_cameras().cameras],
        "models": models,
        "extras": {extra: importlib.util.find_spec(module) is not None for module, (extra, _) in _EXTRAS.items()},
        "problems": problems,
    }


def doctor_command(json_file: str | None) -> None:
    """Print the examination; a problem makes the command fail."""
    found = examine()
    report_json(json_file, found)
    if json_file != "-":
        _print(found)
    if found["problems"]:
        raise MegcError("; ".join(found["problems"]))


def _print(found: dict[str, Any]) -> None:
    from megc_stream.capture.listing import Camera
    from megc_stream.cli.cameras import lines_of

    say(f"megc-stream {found['megc_stream']}, Python {found['python']}, {found['platform']}, {found['cores']} cores")
    say("packages   " + ", ".join(f"{name} {version}" for name, version in sorted(found["packages"].items())))
    say(
        "providers  "
        + ", ".join(found["providers"])
        + "  (available in this build; cuda also needs a GPU and its driver)"
    )
    cameras = [line for camera in found["cameras"] for line in lines_of(Camera(**camera))]
    for number, line in enumerate(cameras or ["none found; megc-stream cameras says what to do"]):
        say(f"{'' if number else 'cameras':10} {line}")
    say("models     " + ", ".join(sorted(found["models"])))
    for module, (extra, purpose) in _EXTRAS.items():
        del module
        state = "installed" if found["extras"][extra] else f"not installed: pip install '.[{extra}]' in a checkout"
        say(f"extra      {extra} ({purpose}): {state}")
    say("result     " + ("; ".join(found["problems"]) or "everything that the default needs is here"))
