// What this client knows of a room, and what it lacks. Pure: no clock, no network. `tests/replica.json` tells each rule as an example.

/** Deltas that arrived before those that go before them; what does not fit is fetched again. */
export const EARLY_MAX = 1024;

/** Applied deltas that are kept, for a state from the API that is older than they are. */
export const RECENT_MAX = 1024;

/** Unknown comments that wait to be fetched; more come with the next time that the room is fetched. */
export const UNKNOWN_MAX = 32;

/** The newest comments that are kept; older ones can be fetched again. */
export const COMMENTS_MAX = 2000;

/**
 * @typedef {{seq: number, at: number, action: "create"|"edit"|"delete"|"like"|"unlike", comment: number, user: string, text?: string}} Delta
 * @typedef {{comment: number, user: string, text: string, at: number, edited: boolean, likes: number, liked?: boolean}} Comment
 * @typedef {{room: string, recovery: "strong"|"eventual", refetch_s?: number, seq: number, comments: Comment[], more: boolean}} RoomState
 */

export class Replica {
  /** The last delta that is in this state. */
  seq = 0;
  /** @type {"strong"|"eventual"} */
  recovery = "strong";
  /** Whether there are comments before `oldest`. */
  more = false;
  /** The id of the oldest comment from which on all are here; null with none. */
  oldest = null;

  #user;
  /** By id: the comment, and `seq`, the last delta that is in it. */
  #entries = new Map();
  /** The newest delta known to exist. */
  #newest = 0;
  /** By seq: deltas that wait for those before them. */
  #early = new Map();
  #recent = [];
  #unknown = new Set();

  /** @param {string} user who looks: a comment's `liked` is about them */
  constructor(user) {
    this.#user = user;
  }

  /** The comments, newest last. */
  get comments() {
    return [...this.#entries.values()].map(({ comment }) => comment).sort((a, b) => a.comment - b.comment);
  }

  /** How many deltas exist that are not applied yet. Always 0 in an eventual room, which does not ask. */
  get behind() {
    return this.recovery === "strong" ? Math.max(0, this.#newest - this.seq) : 0;
  }

  /** Whether a delta came without those before it, which nobody will send unasked. */
  get gap() {
    return this.#early.size > 0;
  }

  /**
   * A server says that there are deltas up to this one, and sends those after it unasked.
   *
   * @param {number} seq
   */
  expect(seq) {
    this.#newest = Math.max(this.#newest, seq);
    // Nobody will come for those in between.
    if (this.recovery === "eventual") this.seq = this.#newest;
  }

  /**
   * A delta, from wherever. In a strong room each is applied once and in order, however often and in whatever order they come; in an eventual one what
   * comes is applied, unless it is old.
   *
   * @param {Delta} delta
   * @returns {Delta[]} what was applied
   */
  hear(delta) {
    if (delta.seq <= this.seq) return [];
    this.#newest = Math.max(this.#newest, delta.seq);
    if (this.recovery === "strong" && delta.seq > this.seq + 1) {
      if (this.#early.size < EARLY_MAX) this.#early.set(delta.seq, delta);
      return [];
    }
    this.#apply(delta);
    return [delta, ...this.#applyEarly()];
  }

  /**
   * The API's state in the place of what was here. In an eventual room, what was applied after it is applied to it again; in a strong one it is asked for
   * again.
   *
   * @param {RoomState} state
   */
  load(state) {
    this.recovery = state.recovery;
    this.#entries.clear();
    this.#unknown.clear();
    this.oldest = null;
    if (this.recovery === "strong") this.#recent = [];
    this.#include(state);
    this.seq = this.recovery === "strong" ? state.seq : Math.max(this.seq, state.seq);
    this.#newest = Math.max(this.#newest, this.seq);
    for (const seq of this.#early.keys()) if (seq <= this.seq) this.#early.delete(seq);
    this.#applyEarly();
  }

  /**
   * Older comments, as the API gives them `before` the oldest. If the state is older than what is remembered of the deltas since, nothing is done.
   *
   * @param {RoomState} state
   */
  loadEarlier(state) {
    const since = this.#since(state.seq).length;
    if (this.recovery === "eventual" || since === Math.max(0, this.seq - state.seq)) this.#include(state);
  }

  /** The room's log is another one than ours: all that is here is of a past that does not count. The next thing to do is `load`. */
  forget() {
    this.seq = this.#newest = 0;
    this.#recent = [];
    this.#early.clear();
  }

  /** Comments that deltas were about and that should be here but are not (eventual rooms). Who takes them fetches them. */
  takeUnknown() {
    const ids = [...this.#unknown];
    this.#unknown.clear();
    return ids;
  }

  /**
   * What was unknown.
   *
   * @param {Comment} comment
   */
  learn(comment) {
    this.#entries.set(comment.comment, { comment: { ...comment }, seq: this.seq });
  }

  /** The API says whether the user likes it, without that anything changed. */
  learnLiked(id, liked) {
    const entry = this.#entries.get(id);
    if (entry) entry.comment = { ...entry.comment, liked };
  }

  #since(seq) {
    return this.#recent.filter((delta) => delta.seq > seq);
  }

  #include({ comments, seq, more }) {
    this.more = more;
    if (comments.length) this.oldest = comments[0].comment;
    for (const comment of comments) this.#entries.set(comment.comment, { comment: { ...comment }, seq });
    for (const delta of this.#since(seq)) this.#change(delta);
  }

  #applyEarly() {
    const applied = [];
    for (let next; (next = this.#early.get(this.seq + 1)); applied.push(next)) {
      this.#early.delete(next.seq);
      this.#apply(next);
    }
    return applied;
  }

  #apply(delta) {
    this.seq = delta.seq;
    this.#recent.push(delta);
    if (this.#recent.length > RECENT_MAX) this.#recent.shift();
    this.#change(delta);
  }

  #change(delta) {
    const { seq, action, comment: id, user, text, at } = delta;
    const entry = this.#entries.get(id);
    if (action === "create") {
      if (!entry) this.#create(seq, { comment: id, user, text, at, edited: false, likes: 0, liked: false });
    } else if (!entry) {
      // Older than what is here is no business of ours; what is missing in the midst of it is.
      const missing = this.recovery === "eventual" && action !== "delete" && (id > (this.oldest ?? 0) || !this.more);
      if (missing && this.#unknown.size < UNKNOWN_MAX) this.#unknown.add(id);
    } else if (seq > entry.seq) {
      if (action === "delete") this.#entries.delete(id);
      else this.#entries.set(id, { comment: changed(entry.comment, delta, user === this.#user), seq });
    }
  }

  #create(seq, comment) {
    this.#entries.set(comment.comment, { comment, seq });
    this.oldest ??= comment.comment;
    if (this.#entries.size <= COMMENTS_MAX) return;
    const ids = [...this.#entries.keys()].sort((a, b) => a - b);
    // A tenth at once: sorting for each would be slow in a busy room.
    for (const id of ids.splice(0, COMMENTS_MAX / 10)) this.#entries.delete(id);
    this.oldest = ids[0];
    this.more = true;
  }
}

/** The comment after an edit, a like or an unlike. */
function changed(comment, { action, text }, isMine) {
  if (action === "edit") return { ...comment, text, edited: true };
  const liked = isMine ? action === "like" : comment.liked;
  return { ...comment, liked, likes: comment.likes + (action === "like" ? 1 : -1) };
}
