"""A small RTSP server: what the real FFmpeg sends as RTP over UDP goes to the client over its RTSP connection (TCP).

Enough of RFC 2326 for one video track: OPTIONS, DESCRIBE, SETUP with interleaved channels, PLAY, GET_PARAMETER,
TEARDOWN. Each DESCRIBE starts an FFmpeg of its own, which plays the clip at its own rate from the beginning.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

_POLL_S = 0.05
_START_S = 20.0
_RECEIVE_BYTES = 1 << 20  # what comes before PLAY waits here


class RtspServer:
    """Serves ``clip`` as ``rtsp://127.0.0.1:PORT/lab_left``, and nothing under other paths, until :meth:`kill`.

    With ``silent`` it accepts connections and says nothing; without ``described`` the description holds no parameter
    sets (SPS, PPS), which then have to be in the stream; without ``tcp`` it offers UDP only.
    """

    def __init__(self, clip: Path, *, silent: bool = False, described: bool = True, tcp: bool = True) -> None:
        self.clip = clip
        self.described = described
        self.transports = "RTP/AVP/TCP" if tcp else "RTP/AVP/UDP"
        self.plays = True
        """Whether anything is relayed after PLAY."""
        self.ending = threading.Event()
        self._silent = silent
        self._port = 0
        self._threads: list[threading.Thread] = []
        self._sessions: list[_Session] = []
        self.requests: list[tuple[str, str]] = []
        """Method and Transport header of every request."""
        self._listener = self._listen()

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/lab_left"

    def start(self) -> None:
        """Serve, on the same port as before."""
        self.ending.clear()
        self._listener.listen()
        self._spawn(self._accept)

    def stall(self) -> None:
        """Relay nothing more to the clients of this moment, and keep their connections."""
        for session in self._sessions:
            session.stalled = True

    def wait(self) -> None:
        """Return once all clients have left."""
        for session in self._sessions:
            assert session.over.wait(_START_S), "a client does not leave"

    def kill(self) -> None:
        """Break all connections and stop listening; the address stays reserved for :meth:`start`."""
        self.ending.set()
        for thread in self._threads:
            thread.join(_START_S)
        self._threads = []
        self._listener.close()
        self._listener = self._listen()

    def close(self) -> None:
        """Leave for good."""
        self.kill()
        self._listener.close()

    def _listen(self) -> socket.socket:
        """Return a bound socket; it refuses connections until it listens."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        return listener

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ending.is_set():
            if _readable(self._listener):
                self._spawn(self._serve, self._listener.accept()[0])

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as stack, suppress(ConnectionError):
            stack.enter_context(client)
            if self._silent:
                self.ending.wait()
                return
            self._sessions.append(_Session(self, client, stack))
            self._sessions[-1].run()


class _Session:
    """One client."""

    def __init__(self, server: RtspServer, client: socket.socket, stack: ExitStack) -> None:
        self._server = server
        self._client = client
        self._stack = stack
        self._received = b""
        self._media: list[socket.socket] = []
        self._playing = False
        self.stalled = False
        self.over = threading.Event()
        stack.callback(self.over.set)

    def run(self) -> None:
        while not self._server.ending.is_set():
            relayed = self._media if self._playing and not self.stalled else []
            for ready in select.select([self._client, *relayed], [], [], _POLL_S)[0]:
                if ready is not self._client:
                    packet = ready.recv(65536)
                    channel = self._media.index(ready)
                    with suppress(ConnectionError):  # what a client said before it left is read all the same
                        self._client.sendall(struct.pack("!cBH", b"$", channel, len(packet)) + packet)
                elif not self._take(self._client.recv(65536)):
                    return

    def _take(self, data: bytes) -> bool:
        """Take bytes of the client; False where it is gone or wants to go."""
        if not data:
            return False
        self._received += data
        while True:
            if self._received[:1] == b"$":  # a report on what it received
                size = 4 + struct.unpack_from("!H", self._received.ljust(4, b"\0"), 2)[0]
                if len(self._received) < size:
                    return True
                self._received = self._received[size:]
                continue
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return True
            self._received = rest
            if not self._answer(head.decode("ascii")):
                return False

    def _answer(self, request: str) -> bool:
        line, *lines = request.split("\r\n")
        method, address, _ = line.split()
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        self._server.requests.append((method, headers.get("transport", "")))
        status, answer, body = "200 OK", {"CSeq": headers["cseq"], "Session": "1"}, ""
        match method:
            case "OPTIONS":
                answer["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
            case "DESCRIBE" if not re.fullmatch(rf"{re.escape(self._server.address)}/?", address):
                status = "404 Not Found"
            case "DESCRIBE":
                body = self._start()
                answer |= {"Content-Base": f"{self._server.address}/", "Content-Type": "application/sdp"}
            case "SETUP" if not (channels := re.search(self._server.transports + ";.*", headers["transport"])):
                status = "461 Unsupported Transport"
            case "SETUP":
                answer["Transport"] = channels[0]
            case "PLAY":
                self._playing = self._server.plays
        if body:
            answer["Content-Length"] = str(len(body))
        told = [f"RTSP/1.0 {status}", *(f"{name}: {value}" for name, value in answer.items())]
        self._client.sendall(("\r\n".join(told) + "\r\n\r\n" + body).encode("ascii"))
        return method != "TEARDOWN"

    def _start(self) -> str:
        """Start FFmpeg towards a pair of ports (RTP and RTCP) and return its session description."""
        self._media = [self._stack.enter_context(one) for one in _pair()]
        port = self._media[0].getsockname()[1]
        command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-re", "-i", str(self._server.clip)]
        command += ["-c", "copy", "-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size=1400"]
        ffmpeg = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._stack.callback(ffmpeg.wait, _START_S)
        self._stack.callback(ffmpeg.kill)
        assert ffmpeg.stdout is not None
        self._stack.callback(ffmpeg.stdout.close)
        described = ""
        while "a=fmtp" not in described:  # the last line
            line = ffmpeg.stdout.readline().decode("ascii")
            assert line, "FFmpeg ended without a description"
            described += "" if line.startswith("SDP:") else line.rstrip("\r\n") + "\r\n"
        assert "sprop-parameter-sets=" in described
        if not self._server.described:
            described = re.sub(r" sprop-parameter-sets=[^;\r]*;?", "", described)
        return re.sub(r"m=video \d+", "m=video 0", described) + "a=control:track1\r\n"


def _pair() -> tuple[socket.socket, socket.socket]:
    """Return UDP sockets of two ports in a row, the first one even."""
    while True:
        first, second = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            if port % 2 == 0:
                second.bind(("127.0.0.1", port + 1))
                for one in (first, second):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
                return first, second
        except OSError:
            pass  # taken by somebody else
        first.close()
        second.close()


def _readable(one: socket.socket) -> bool:
    return bool(select.select([one], [], [], _POLL_S)[0])
