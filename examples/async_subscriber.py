"""Follows a running analysis with asyncio: events as they grow, and once a second how the analysis is doing.

megc-stream run 0 --publish tcp://127.0.0.1:5550
python async_subscriber.py tcp://127.0.0.1:5550
"""

import asyncio
import sys

from megc_stream.wire import AsyncSubscriber
from megc_stream.wire.protocol import EndMessage, EventMessage, StatusMessage


def warn(text: str) -> None:
    """Losses, silence and lateness are told here."""
    print(f"warning: {text}", file=sys.stderr)


async def main(endpoint: str) -> None:
    """Print until the source ends."""
    async with AsyncSubscriber(endpoint, ("event.", "status.", "meta.end."), warn=warn) as stream:
        hello = await stream.wait_for_welcome(timeout_s=10)
        print(f"connected to {hello.software}", flush=True)
        async for message in stream:
            match message:
                case EventMessage(event=event):
                    print(f"{event.event_id} rev {event.rev}: {event.kind} {event.emotion or ''}", flush=True)
                case StatusMessage(status=status):
                    print(f"{status.whole.fps_out:.0f} scores/s, dropped {status.whole.dropped}", flush=True)
                case EndMessage(end=end):
                    print(f"{end.source} ended after {end.frames} frames, {stream.gaps} messages lost", flush=True)
                    return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5550"))
