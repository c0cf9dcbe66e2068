"""A server of weight files on the loopback interface that can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

from keras_files import random_weights, write_keras

from megc_stream.models import ModelEntry


class WeightServer:
    """``files`` by name; a name in ``cut`` is sent half, one in ``gone`` is not found; ``asked`` lists the requests."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut: set[str] = set()
        self.gone: set[str] = set()
        self.asked: list[str] = []
        self.address = ""

    def entry(self, **changes: object) -> ModelEntry:
        """A registry entry whose weights this server has."""
        fields: dict[str, object] = {
            "name": "mean-test",
            "task": "spotting and recognition",
            "origin": "published",
            "source": "a test",
            "licence": "the repository has no licence file",
            "trained_on": "nothing",
            "classes": ("negative", "positive", "surprise"),
            "k_s": 0.1,
            "k_prime_s": 0.185,
            "folds": len(self.files),
            "address": f"{self.address}/MEAN_Weights/TEST/spot_recog",
        }
        return ModelEntry(**{**fields, **changes})  # type: ignore[arg-type]


@contextmanager
def serving(folder: Path, folds: int = 3) -> Iterator[WeightServer]:
    """Serve generated weight files ``s1.hdf5`` ... until the block ends."""
    files = {
        f"s{fold}.hdf5": write_keras(folder / f"s{fold}.hdf5", random_weights(fold, trained=fold != 2)).read_bytes()
        for fold in range(1, folds + 1)
    }
    state = WeightServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            state.asked.append(name)
            if name in state.gone or name not in state.files:
                self.send_error(404)
                return
            content = state.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if name in state.cut else content)

        def log_message(self, *arguments: object) -> None:
            pass

    # Not http.server's own server: it asks the name service for its name, which may take long.
    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
