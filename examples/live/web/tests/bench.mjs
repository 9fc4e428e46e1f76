// A room whose clock, chance, network and window are the test's.

import { mock } from "node:test";

import { LiveRoom } from "../live.js";
import { FakeDocument, FakeServer, FakeStream, FakeWebSocket, comment, json, roomState, settle } from "./fakes.mjs";

export class Bench {
  server = new FakeServer();
  window = new EventTarget();
  document = new FakeDocument();
  random = 0.5;
  states = [];
  applied = [];

  constructor() {
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    FakeWebSocket.all = [];
    const { window, document, server } = this;
    this.room = new LiveRoom("r", "ann", { url: "http://h", wakers: [window, document], random: () => this.random, fetch: server.fetch, WebSocket: FakeWebSocket });
    this.room.addEventListener("state", () => this.states.push(this.room.state));
    this.room.addEventListener("change", ({ detail }) => this.applied.push(...(detail.deltas ?? []).map(({ seq }) => seq)));
  }

  get is() {
    return this.room.state.is;
  }

  get socket() {
    return FakeWebSocket.last;
  }

  get sockets() {
    return FakeWebSocket.all.length;
  }

  async pass(ms) {
    mock.timers.tick(ms);
    await settle();
  }

  /** Opens, with this state of the room, up to the connection without its hello. */
  async enter(state = roomState(1, [comment(1)])) {
    this.room.open();
    this.server.next("/api/rooms/r?").answer(json(state));
    await settle();
  }

  /** The same, and a hello. */
  async live(state = roomState(1, [comment(1)]), node = "n-1") {
    await this.enter(state);
    await this.hello(state.seq, node);
  }

  async hello(seq = 1, node = "n-1", presence = 2) {
    this.socket.says({ hello: { node, room: "r", seq, presence } });
    await settle();
  }

  /** The connection ends without its hello. */
  async fails(code = 1006) {
    this.socket.ends(code);
    await settle();
  }

  /** Answers the oldest event stream that was asked for. */
  async stream() {
    const request = this.server.next("/live/events/");
    const stream = new FakeStream(request.signal);
    request.answer(stream.response);
    await settle();
    return stream;
  }

  done() {
    this.room.close();
    mock.timers.reset();
  }
}
