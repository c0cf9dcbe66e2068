"""ONNX Runtime sessions: opened the same way everywhere, with errors that name the file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import ModelError

__all__ = ["OnnxModel", "cache_folder", "fetched_models", "model_path", "sha256_of", "shipped_models"]

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_CHECKOUT = Path(__file__).resolve().parents[2] / "models"
_INSTALLED = Path(__file__).resolve().parent / "data"


def model_path(file_name: str) -> Path:
    """Return where a shipped model file lies: in the installed package, else in ``models/`` of a checkout.

    Raises
    ------
    ModelError
        The file is in neither place.
    """
    for folder in (_INSTALLED, _CHECKOUT):
        if (folder / file_name).is_file():
            return folder / file_name
    raise ModelError(
        f"model file {file_name}: not found in {_INSTALLED} or {_CHECKOUT}; the installation is damaged: reinstall it"
    )


def shipped_models() -> list[str]:
    """Return the names (file stems) of all ONNX files that come with the package, sorted."""
    return sorted({file.stem for folder in (_INSTALLED, _CHECKOUT) for file in folder.glob("*.onnx")})


def cache_folder() -> Path:
    """Return the user's folder of fetched models; it may not exist."""
    import pooch

    return Path(pooch.os_cache("megc-stream")) / "models"


def fetched_models() -> dict[str, Path]:
    """Return the ONNX files in :func:`cache_folder` by name, sorted."""
    return {file.stem: file for file in sorted(cache_folder().glob("[!.]*.onnx"))}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_open: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
"""Sessions in use, by all that makes them what they are."""
_opening = threading.Lock()


class OnnxModel:
    """An ONNX Runtime session with one thread unless told otherwise.

    Models of the same file, providers and threads share one session while any of them lives: networks keep no state
    between calls, and several sources of one run need no copy each. Any thread may call :meth:`run`.

    Parameters
    ----------
    path
        The .onnx file.
    providers
        Execution providers in order of preference: ``"cuda"``, ``"tensorrt"``, ``"cpu"``. One that this build of ONNX
        Runtime cannot load is an error, not silently another one; ``"cpu"`` is appended where it is missing.
    threads
        Threads inside one call.

    Raises
    ------
    ModelError
        No such file, not an ONNX model, or a provider that is not available.
    """

    def __init__(self, path: Path, providers: Sequence[str] = ("cpu",), threads: int = 1) -> None:
        import onnxruntime

        if not path.is_file():
            raise ModelError(f"model {path}: no such file; expected an .onnx file ('megc-stream doctor' names ours)")
        names = [_provider(name, onnxruntime.get_available_providers()) for name in dict.fromkeys((*providers, "cpu"))]
        file = path.stat()
        key = (path.resolve(), file.st_mtime_ns, file.st_size, tuple(names), threads)
        with _opening:
            session = _open.get(key)
            if session is None:
                session = _open[key] = _new_session(path, names, threads)
        self._session: Any = session
        self.path = path
        self.input_types: dict[str, str] = {node.name: node.type for node in self._session.get_inputs()}
        self.inputs: dict[str, list[Any]] = {node.name: node.shape for node in self._session.get_inputs()}
        self.outputs: dict[str, list[Any]] = {node.name: node.shape for node in self._session.get_outputs()}
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return all outputs, in the model's order, for the named inputs."""
        result: list[NDArray[np.float32]] = self._session.run(None, dict(inputs))
        return result


def _new_session(path: Path, names: Sequence[str], threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would take a core away from the other stages.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A provider that cannot start logs many lines before its error: ours says it in one.
    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=names)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"model {path}: ONNX Runtime cannot load it ({reason}); expected an ONNX model") from error
    finally:
        onnxruntime.set_default_logger_severity(2)
    active = session.get_providers()
    if names[0] != active[0]:
        raise ModelError(
            f"model {path}: provider {names[0]} could not start, got {active[0]}; check the GPU driver with "
            "'megc-stream doctor' or use --providers cpu"
        )
    return session


def _provider(name: str, available: Sequence[str]) -> str:
    full = _PROVIDERS.get(name.lower())
    if full is None:
        raise ModelError(f"provider '{name}': unknown; expected one of {', '.join(_PROVIDERS)}")
    if full not in available:
        raise ModelError(f"provider '{name}': this ONNX Runtime offers {', '.join(available)} only")
    return full
