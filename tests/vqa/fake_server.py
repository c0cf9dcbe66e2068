"""An OpenAI-compatible server on the loopback interface that does what a script says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

__all__ = ["FakeServer", "answer", "broken_off", "dripping", "hanging", "huge", "raw", "serving", "status"]

_DRIP_S = 0.005


class FakeServer:
    """``script`` holds what is done with the next questions; those after it are answered with ``usual``.

    ``asked`` lists the bodies of the questions, ``headers`` their headers (names in lower case); ``listed`` counts
    requests for the models.
    ``released`` ends everything that hangs; it is set when the server goes down.
    """

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.usual: Reply = answer("no reply was scripted")
        self.models: list[dict[str, Any]] = [{"id": "tiny", "object": "model", "parent": None}]
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.listed = 0
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.address = ""


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    state: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.state.lock:
            self.state.listed += 1
        if self.path == "/v1/models":
            self.send(200, json.dumps({"object": "list", "data": self.state.models}).encode())
        else:
            self.send(404, b'{"detail":"Not Found"}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state = self.state
        with state.lock:
            state.asked.append(body)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            reply = state.script.pop(0) if state.script else state.usual
        if self.path != "/v1/chat/completions":
            self.send(404, b'{"detail":"Not Found"}')
        elif body["model"] not in [model["id"] for model in state.models]:
            message = f"The model `{body['model']}` does not exist."
            self.send(404, json.dumps({"error": {"message": message, "code": 404}}).encode())
        else:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up: that is what is tested
                reply(self, body)

    def send(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole response."""
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


Reply = Callable[[Handler, dict[str, Any]], None]


def completion(text: str, model: str, finish_reason: str = "stop") -> bytes:
    """Return the body of an answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 120, "completion_tokens": 7, "total_tokens": 127}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}
    return json.dumps(body).encode()


def answer(text: str | Mapping[str, Any], finish_reason: str = "stop") -> Reply:
    """Answer with a text, or with an object as JSON."""
    said = text if isinstance(text, str) else json.dumps(text)
    return lambda handler, body: handler.send(200, completion(said, body["model"], finish_reason))


def status(code: int, message: str = "busy", headers: Mapping[str, str] | None = None) -> Reply:
    """Fail with a status."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    return lambda handler, _: handler.send(code, body, headers)


def raw(data: bytes) -> Reply:
    """Answer 200 with any body."""
    return lambda handler, _: handler.send(200, data)


def hanging(handler: Handler, _: dict[str, Any]) -> None:
    """Say nothing until the end of the test."""
    handler.state.released.wait()
    handler.close_connection = True


def broken_off(handler: Handler, body: dict[str, Any]) -> None:
    """Promise a whole answer, send half of it and hang up."""
    data = completion("happiness", body["model"])
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def dripping(handler: Handler, _: dict[str, Any]) -> None:
    """Send a blank now and then, without end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not handler.state.released.wait(_DRIP_S):
        handler.wfile.write(b"1\r\n \r\n")
        handler.wfile.flush()


def huge(size: int) -> Reply:
    """Answer with a text of ``size`` characters."""
    return lambda handler, body: handler.send(200, completion("x" * size, body["model"]))


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *arguments: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving() -> Iterator[FakeServer]:
    """Serve until the block ends."""
    state = FakeServer()
    handler = type("_Handler", (Handler,), {"state": state})
    # Not http.server's own server: it asks the name service for its name, which may take long.
    server = _Server(("127.0.0.1", 0), handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
