// The page: connects explorer.js, which is also the widget of the notebooks, with server.py through a WebSocket.

const AGAIN = 1000;  // milliseconds until the next attempt to connect
const GONE = "The server does not answer. Start it again by the same command: this page then comes back.";
const UNKNOWN = "This page is no longer known: open the address that was printed.";

/** Stands for the widget's model: the setup, and messages in both directions. */
class SocketModel {
  constructor(begin) {
    Object.assign(this, { begin, setup: null, listeners: { "msg:custom": new Set(), gone: new Set(), unsent: new Set() } });
    this.connect();
  }

  get() { return this.setup; }
  on(kind, listener) { this.listeners[kind].add(listener); }
  off(kind, listener) { this.listeners[kind].delete(listener); }
  tell(kind, ...what) { this.listeners[kind].forEach((listener) => listener(...what)); }

  connect() {
    this.socket = new WebSocket(`ws://${location.host}/socket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("message", ({ data }) => this.receive(data));
    this.socket.addEventListener("close", () => this.lost());
  }

  /** Say what is wrong, and connect again. */
  async lost() {
    setTimeout(() => this.connect(), AGAIN);
    const answer = await fetch("./", { cache: "no-store" }).catch(() => null);
    if (!answer || !answer.ok) this.tell("gone", answer ? UNKNOWN : GONE);
  }

  receive(data) {
    const length = new DataView(data).getUint32(0);
    const { content, sizes } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    let at = 4 + length;
    const buffers = sizes.map((size) => new Uint8Array(data, (at += size) - size, size));
    if (content.is !== "setup") this.tell("msg:custom", content, buffers);
    else if (this.setup) location.reload();  // the server is back, without what this page asked
    else this.begin(this.setup = content.setup);
  }

  send(content, _, buffers = []) {
    if (this.socket.readyState !== WebSocket.OPEN) return content.do === "search" && setTimeout(() => this.tell("unsent"));
    const sizes = buffers.map((one) => one.byteLength);
    const text = new TextEncoder().encode(JSON.stringify({ content, sizes })), head = new DataView(new ArrayBuffer(4));
    head.setUint32(0, text.length);
    this.socket.send(new Blob([head, text, ...buffers]));
  }
}

const { default: explorer } = await import("./explorer.js");
const model = new SocketModel(() => explorer.render({ model, el: document.body }));
