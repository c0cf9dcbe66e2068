// Prints every named event of a running analysis, and says when messages were lost.
//
//     megc-stream run 0 --publish tcp://127.0.0.1:5550
//     npm install && node subscriber.js tcp://127.0.0.1:5550
import { decode } from "@msgpack/msgpack"
import { Subscriber } from "zeromq"

const endpoint = process.argv[2] ?? "tcp://127.0.0.1:5550"
const socket = new Subscriber()
socket.subscribe("meta.welcome.", "meta.end.", "event.label.")
socket.connect(endpoint)
socket.subscribe("meta.hello.") // last: its answer proves that the others have arrived

const next = new Map() // the seq to come, by session and topic
for await (const [topic, payload] of socket) {
  if (payload === undefined) continue // meta.welcome. is a single frame
  const message = decode(payload)
  const key = `${message.session} ${message.topic}`
  const lost = message.seq - (next.get(key) ?? message.seq)
  if (lost > 0) console.error(`${lost} messages of ${topic} lost`)
  next.set(key, message.seq + 1)
  if (message.type === "hello") {
    console.log(`connected to ${message.hello.software}`)
  } else if (message.type === "event") {
    const { event_id, type, emotion, onset } = message.event
    console.log(event_id, type, emotion, `${onset.t_s.toFixed(3)} s`)
  } else if (message.type === "end") {
    console.log(`${message.source} ended after ${message.end.frames} frames`)
    break
  }
}
socket.close()
