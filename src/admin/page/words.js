// Figures and causes in words.

const GROUPS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (n) => GROUPS.format(n);

export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

export const percent = (share) => `${Math.floor(share * 100)} %`;

/** Milliseconds in the two units that matter, as the command line writes them. */
export function duration(ms) {
  const s = Math.floor(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (s < 10) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)}m${two(s % 60)}s` : `${s / 60} min`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s / 3600) % 24)}h`;
}

/** Whole seconds: a heartbeat's age should not flicker. */
export const age = (ms) => (ms < 1000 ? "under 1 s" : ms < 10000 ? `${Math.floor(ms / 1000)} s` : duration(ms));

export const clock = (unixMs) => new Date(unixMs).toLocaleTimeString("en-GB");

/** What an ended session means: who ended it, and whether that is as it should be. */
export const ENDS = {
  client_closed: ["the client left", "fine"],
  backend_closed: ["the backend closed it", "fine"],
  drained: ["moved by a drain", "moved"],
  rebalanced: ["moved by a rebalance", "moved"],
  shutdown: ["Holdline stops", "moved"],
  idle_timeout: ["nothing was sent for too long", "fine"],
  session_timeout: ["its time was over", "fine"],
  client_lost: ["the client’s connection broke", "bad"],
  backend_lost: ["the backend’s connection broke", "bad"],
  write_timeout: ["a peer took no bytes", "bad"],
  keepalive_timeout: ["the client did not answer a ping", "bad"],
  cut: ["cut at a deadline or by order", "bad"],
  protocol_error: ["a peer broke the protocol", "bad"],
};

export const REFUSALS = {
  capacity: "every backend is full",
  queue_full: "as many wait as may",
  queue_timeout: "waited as long as it may",
  no_backend: "no backend takes sessions",
  backend_unreachable: "dials failed",
  backend_invalid: "a backend answered nonsense",
  limit: "a limit of this gateway",
  draining: "Holdline stops, or the fleet left the configuration",
};

export const PHASES = {
  starting: ["◌", "starting, not heard yet"],
  ready: ["●", "takes sessions"],
  suspect: ["▲", "heartbeats or dials fail: no new sessions"],
  draining: ["↘", "takes no new sessions; those it has are moved"],
  drained: ["○", "drained and empty"],
  dead: ["✕", "gone"],
};

/** The state of a fleet in a sentence: what its clients feel, worst first. */
export function verdict(fleet) {
  const ready = fleet.backends.filter((b) => b.phase === "ready").length;
  const waits = `${count(fleet.queued, "client")} ${fleet.queued === 1 ? "waits" : "wait"} for a seat, the first for ${duration(fleet.oldest_wait_ms)}`;
  if (fleet.leaving) {
    const left = fleet.sessions ? `${count(fleet.sessions, "session")} ${fleet.sessions === 1 ? "is" : "are"} drained` : "nobody is left";
    return ["busy", `Leaving: it is not in the configuration any more; ${left}.`];
  }
  if (fleet.refused_per_s > 0) {
    return ["bad", `Clients are refused, ${number(fleet.refused_per_s)} a second${fleet.queued ? `; ${waits}` : ""}.`];
  }
  if (fleet.queued > 0) return ["busy", `${waits}.`];
  if (ready === 0) return fleet.desired === 0 ? ["fine", "Asleep: no backend is wanted."] : ["bad", "No backend takes sessions."];
  const late = fleet.backends.filter((b) => b.draining && b.draining.due_in_ms === 0 && b.draining.remaining > 0);
  if (late.length) return ["busy", `The drain of ${late.map((b) => b.id).join(", ")} is late.`];
  const ill = fleet.backends.filter((b) => b.phase === "suspect");
  if (ill.length) return ["busy", `Clients are served; ${ill.map((b) => b.id).join(", ")} ${ill.length === 1 ? "is" : "are"} not heard.`];
  if (fleet.free === 0) return ["busy", "Clients are served; every seat is taken."];
  return ["fine", "All clients are served; nobody waits."];
}

/** How a move stands against its plan. */
export function pace(move) {
  const left = `${number(move.remaining)} of ${number(move.total)} left`;
  const off = move.remaining - move.planned;
  const plan = Math.abs(off) <= Math.max(1, move.total / 50) ? "on plan" : off > 0 ? `${number(off)} behind its plan` : `${number(-off)} ahead of its plan`;
  if (move.deadline_in_ms === 0) return `${left}; the deadline passed`;
  if (move.due_in_ms === 0) return `${left}; late, cut in ${duration(move.deadline_in_ms)}`;
  return `${left}; ${plan}; due in ${duration(move.due_in_ms)}, deadline in ${duration(move.deadline_in_ms)}`;
}
