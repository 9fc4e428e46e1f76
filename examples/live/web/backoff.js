// When to try again. Pure: what happened and a random number go in, milliseconds come out.

/** The interval after the first failure is twice this; each further failure doubles it. */
export const INTERVAL_MS = 1000;

/** Intervals grow no further. */
export const INTERVAL_MAX_MS = 120_000;

/** The longest wait that a server is obeyed in. */
export const ASKED_MAX_MS = 3_600_000;

/**
 * How long to wait before the next try: not at all after a connection that lasted, else anything up to a growing interval ("full jitter": a crowd that
 * lost its server together must not come back together), and never less than the server asked for.
 *
 * @param {number} failures tries that failed since the last connection that lasted
 * @param {number} random from 0 up to 1
 * @param {?number} askedMs what the server asked for (`Retry-After`, `retry:`; 0 for "at once, but not all together"); null: nothing
 * @returns {number} milliseconds
 */
export function wait(failures, random, askedMs = null) {
  if (failures === 0 && askedMs === null) return 0;
  const interval = Math.min(INTERVAL_MS * 2 ** failures, INTERVAL_MAX_MS);
  return Math.round(Math.min(askedMs ?? 0, ASKED_MAX_MS) + random * interval);
}

/**
 * What a `Retry-After` header asks for (RFC 9110, 10.2.3): seconds, or a date.
 *
 * @param {?string} header
 * @param {number} now milliseconds since 1970
 * @returns {?number} milliseconds; null without a header that can be read
 */
export function retryAfter(header, now) {
  if (header === null) return null;
  if (/^\d+$/.test(header)) return Number(header) * 1000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}
