// Figures and causes in words.

const GROUPS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (n) => GROUPS.format(n);

export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

export const percent = (share) => `${Math.floor(share * 100)} %`;

/** Milliseconds in the two largest units, as on the command line. */
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

/** Causes of ended sessions, with their severity. */
export const ENDS = {
  client_closed: ["closed by the client", "fine"],
  backend_closed: ["closed by the backend", "fine"],
  drained: ["moved by a drain", "moved"],
  rebalanced: ["moved by a rebalance", "moved"],
  shutdown: ["Holdline was stopped", "moved"],
  idle_timeout: ["idle timeout", "fine"],
  session_timeout: ["session timeout", "fine"],
  client_lost: ["connection to the client lost", "bad"],
  backend_lost: ["connection to the backend lost", "bad"],
  write_timeout: ["write timeout: a peer stopped reading", "bad"],
  keepalive_timeout: ["the client did not answer a ping", "bad"],
  cut: ["cut at a deadline or by order", "bad"],
  protocol_error: ["protocol violation by a peer", "bad"],
};

export const REFUSALS = {
  capacity: "every backend is full",
  queue_full: "the queue is full",
  queue_timeout: "timed out in the queue",
  no_backend: "no backend takes sessions",
  backend_unreachable: "connecting to backends failed",
  backend_invalid: "invalid response of a backend",
  limit: "a limit of this gateway",
  draining: "Holdline is stopping, or the fleet was removed from the configuration",
};

export const PHASES = {
  starting: ["◌", "starting, no heartbeat yet"],
  ready: ["●", "takes sessions"],
  suspect: ["▲", "heartbeats or dials fail: no new sessions"],
  draining: ["↘", "takes no new sessions; those it has are moved"],
  drained: ["○", "drained and empty"],
  dead: ["✕", "failed or stopped"],
};

/** The state of a fleet in a sentence, by its effect on clients, worst first. */
export function verdict(fleet) {
  const ready = fleet.backends.filter((b) => b.phase === "ready").length;
  const waits = `${count(fleet.queued, "client")} ${fleet.queued === 1 ? "waits" : "wait"} for a seat, the oldest for ${duration(fleet.oldest_wait_ms)}`;
  if (fleet.leaving) {
    const left = fleet.sessions ? `${count(fleet.sessions, "session")} ${fleet.sessions === 1 ? "is" : "are"} drained` : "no sessions are left";
    return ["busy", `Leaving: removed from the configuration; ${left}.`];
  }
  if (fleet.refused_per_s > 0) {
    return ["bad", `Clients are refused: ${number(fleet.refused_per_s)} per second${fleet.queued ? `; ${waits}` : ""}.`];
  }
  if (fleet.queued > 0) return ["busy", `${waits}.`];
  if (ready === 0) return fleet.desired === 0 ? ["fine", "Scaled to zero."] : ["bad", "No backend takes sessions."];
  const late = fleet.backends.filter((b) => b.draining && b.draining.due_in_ms === 0 && b.draining.remaining > 0);
  if (late.length) return ["busy", `The drain of ${late.map((b) => b.id).join(", ")} is late.`];
  const ill = fleet.backends.filter((b) => b.phase === "suspect");
  if (ill.length) return ["busy", `Clients are served; no heartbeats from ${ill.map((b) => b.id).join(", ")}.`];
  if (fleet.free === 0) return ["busy", "Clients are served; all backends are full."];
  return ["fine", "All clients are served; the queue is empty."];
}

/** Progress of a move compared with its plan. */
export function pace(move) {
  const left = `${number(move.remaining)} of ${number(move.total)} left`;
  const off = move.remaining - move.planned;
  const plan = Math.abs(off) <= Math.max(1, move.total / 50) ? "on plan" : off > 0 ? `${number(off)} behind its plan` : `${number(-off)} ahead of its plan`;
  if (move.deadline_in_ms === 0) return `${left}; the deadline passed`;
  if (move.due_in_ms === 0) return `${left}; late, cut in ${duration(move.deadline_in_ms)}`;
  return `${left}; ${plan}; due in ${duration(move.due_in_ms)}, deadline in ${duration(move.deadline_in_ms)}`;
}
