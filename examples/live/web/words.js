// What the page says, in words. Pure: `now` is an argument, in milliseconds since 1970.

const GROUPS = new Intl.NumberFormat("en");

export const number = (n) => GROUPS.format(n);

export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

const VIA = { websocket: "WebSocket", stream: "an event stream", poll: "long-poll" };

/**
 * How the room stands, in a line.
 *
 * @param {import("./live.js").State} state
 * @param {?number} presence
 * @param {number} now
 */
export function stateLine(state, presence, now) {
  const here = presence === null ? "" : ` · ${number(presence)} here`;
  switch (state.is) {
    case "live":
      return `live over ${VIA[state.via]} · held by ${state.node}${here}`;
    case "catching-up":
      return `catching up ${count(state.behind, "delta")} over ${VIA[state.via]} · held by ${state.node}${here}`;
    case "reconnecting": {
      const seconds = Math.ceil((state.at - now) / 1000);
      return seconds > 0 ? `reconnecting in ${number(seconds)} s · ${state.why}` : "reconnecting now";
    }
    case "loading":
      return "coming in";
    case "unknown-room":
      return "no such room yet";
    default:
      return "closed";
  }
}

/** How a room's clients recover what they missed. */
export function recoveryWords({ recovery, refetch_s: seconds }) {
  if (recovery === "strong") return "strong recovery: each delta is applied once and in order";
  return `eventual recovery: what was missed is there ${seconds ? `after ${count(seconds, "second")} at the latest` : "when the page is opened again"}`;
}

/** `12:34`, or with its day if that is another one. */
export function clock(unixS, now) {
  const at = new Date(unixS * 1000);
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return at.toDateString() === new Date(now).toDateString() ? time : `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

/** A colour for a name: the same everywhere. */
export function hue(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return hash;
}

/** What was new since the last word to who listens; "" for nothing worth it. */
export function news(deltas, user) {
  const others = deltas.filter((delta) => delta.action === "create" && delta.user !== user);
  if (others.length === 0) return "";
  return others.length === 1 ? `${others[0].user} says: ${others[0].text}` : `${count(others.length, "new comment")}`;
}
