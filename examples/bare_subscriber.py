"""Prints every named event of a running analysis. Needs pyzmq and msgpack, nothing of megc_stream.

megc-stream run 0 --publish tcp://127.0.0.1:5550
python bare_subscriber.py tcp://127.0.0.1:5550
"""

import sys

import msgpack
import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.SUBSCRIBE, b"event.label.")
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5550")
final = False
while not final:
    topic, payload = socket.recv_multipart()
    event = msgpack.unpackb(payload)["event"]
    print(event["event_id"], event["type"], event["emotion"], f"{event['onset']['t_s']:.3f} s", flush=True)
    final = "--once" in sys.argv and event["final"]
