"""Reading the public stream with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import zmq.asyncio

from megc_stream.errors import WireError
from megc_stream.wire.intake import MOST_AT_ONCE
from megc_stream.wire.protocol import Hello, Message, ProtocolMismatch
from megc_stream.wire.subscriber import LOOK_S, SubscriberBase

__all__ = ["AsyncSubscriber"]


class AsyncSubscriber(SubscriberBase):
    """Connects to a publisher and yields its messages; parameters are those of
    :class:`~megc_stream.wire.subscriber.SubscriberBase`, methods those of
    :class:`~megc_stream.wire.subscriber.Subscriber`, to be awaited. Belongs to one event loop.
    """

    _sockets = zmq.asyncio.Socket

    async def wait_for_welcome(self, timeout_s: float) -> Hello:
        """Return once the publisher has our subscriptions: from then on nothing is missed.

        Raises
        ------
        ProtocolMismatch
            The publisher speaks another version of the protocol.
        WireError
            Nobody answered within ``timeout_s``, or we were refused.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while not self._welcomed:
            wait_s = max(0.0, min(deadline_s - loop.time(), LOOK_S))
            if await self._socket.poll(wait_s * 1000):
                self._take_tolerantly(await self._socket.recv_multipart())
            elif wait_s < LOOK_S or self._refused:
                raise self._unwelcome(timeout_s)
        assert self.hello is not None
        return self.hello

    async def receive(self, timeout_s: float) -> Message | None:
        """Return the next message of the topics wanted, or None if none came within ``timeout_s``.

        Raises
        ------
        ProtocolMismatch
            The publisher speaks another version of the protocol.
        WireError
            A message is malformed. It is counted and gone: call again for the next.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        for _ in range(MOST_AT_ONCE):
            if self._intake.mode == "latest":
                await self._drain()
            message = self._intake.pop()
            if message is not None:
                return message
            wait_s = min(max(0.0, deadline_s - loop.time()), self._intake.until_stale_s())
            if await self._socket.poll(wait_s * 1000):
                self._intake.accept(await self._socket.recv_multipart())
                continue
            self._intake.check(self._monitor.problem())
            if loop.time() >= deadline_s:
                return None
        return None

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Yield messages for ever; malformed ones are passed over and counted in ``malformed``."""
        while True:
            try:
                message = await self.receive(1.0)
            except ProtocolMismatch:
                raise
            except WireError:
                continue
            if message is not None:
                yield message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _drain(self) -> None:
        for _ in range(MOST_AT_ONCE):
            if not await self._socket.poll(0):
                return
            self._intake.accept(await self._socket.recv_multipart())
