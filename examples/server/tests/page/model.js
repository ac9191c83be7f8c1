// A server as the README describes it, small enough to be seen to be right, with connections whose messages arrive when the
// test wants. It is handed the same messages as the real one.

const parse = text => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

export class Model {
  content = new Map(); // key -> { value, revision }
  removed = new Map(); // key -> revision
  locks = new Map(); // key -> { owner, token, until }
  events = []; // { version, kind, key, owner, fencing_token }
  sessions = new Map(); // id -> { link: the connection, until: when it ends if it has none }
  written = []; // JSON of all values that were ever set

  constructor({ store = "a", now, lease = 1000, grace = 1500, cards = 4, first = 0 }) {
    Object.assign(this, { store, now, lease, grace, revision: 0, version: 0, next: first });
    for (let number = 1; number <= cards; number++) {
      this.#set(`card.${number}`, { x: number / 10, y: 0 });
      this.#set(`title.${number}`, `card ${number}`);
    }
  }

  #set(key, value) {
    this.content.set(key, { value, revision: this.revision });
    this.removed.delete(key);
    this.written.push(JSON.stringify(value));
  }

  commit(updates, removals = []) {
    this.revision++;
    for (const [key, value] of Object.entries(updates)) this.#set(key, value);
    for (const key of removals) if (this.content.delete(key)) this.removed.set(key, this.revision);
    return this.revision;
  }

  #emit(kind, key, { owner, token }) {
    this.version++;
    this.events.push({ version: this.version, kind, key, owner, fencing_token: kind === "granted" ? this.version : token });
  }

  // Locks and sessions that have run out.
  expire() {
    for (const [key, lock] of this.locks) if (lock.until <= this.now()) this.release(key, "expired");
    for (const [id, session] of this.sessions) if (!session.link && session.until <= this.now()) this.#end(id);
  }

  #end(id) {
    this.sessions.delete(id);
    for (const [key, lock] of this.locks) if (lock.owner === id) this.release(key, "released");
    this.commit({}, [`user.${id}`, `cursor.${id}`].filter(key => this.content.has(key)));
  }

  release(key, kind = "released") {
    this.#emit(kind, key, this.locks.get(key));
    this.locks.delete(key);
  }

  owner(key) {
    const lock = this.locks.get(key);
    if (lock && lock.until <= this.now()) this.release(key, "expired");
    return this.locks.get(key)?.owner;
  }

  acquire(owner, key) {
    if (this.owner(key) === owner) this.locks.get(key).until = this.now() + this.lease;
    else {
      this.#emit("granted", key, { owner });
      this.locks.set(key, { owner, token: this.version, until: this.now() + this.lease });
    }
    return this.locks.get(key).token;
  }

  connect() {
    return { model: this, id: null, in: [], out: [], expected: 1, open: true, code: 0 };
  }

  lose(link, code = 0) {
    link.open = false;
    link.code = code;
    const session = this.sessions.get(link.id);
    if (session?.link === link) Object.assign(session, { link: null, until: this.now() + this.grace });
  }

  away = null; // what the log does: "refuses" all, or carries it out, and does not say so in time: "silent"

  // Deals with the next message of a client.
  serve(link) {
    const message = parse(link.in.shift()), { expected } = link;
    const answer = reply => link.out.push(JSON.stringify(reply));
    const confirm = reply => this.away ? error("unavailable", reply.seq) : answer(reply);
    const error = (code, seq = null) => answer({ type: "error", code, message: code, seq, expected: link.expected });
    if (!message) return error("malformed");
    if (message.seq !== expected) return error("out_of_order");
    link.expected++;
    const { seq, type, change: { updates = {}, removals = [], conditions = [] } = {}, keys = [] } = message;
    if (this.away && (!link.id || (this.away === "refuses" && type !== "bye"))) return error("unavailable", seq);
    if (!link.id) {
      if (type !== "hello" || message.name === "refused") return error("not_allowed", seq);
      return this.#welcome(link, message);
    }
    const { id } = link;
    if (type === "lock") {
      const taken = keys.filter(key => (this.owner(key) ?? id) !== id);
      if (keys.some(key => !this.content.has(key))) error("not_allowed", seq);
      else if (taken.length) this.#refuse(answer, seq, taken);
      else answer({ type: "granted", seq, keys, tokens: Object.fromEntries(keys.map(key => [key, this.acquire(id, key)])) });
    } else if (type === "renew") {
      if (keys.some(key => this.owner(key) !== id)) error("conflict", seq);
      else answer({ type: "granted", seq, keys, tokens: Object.fromEntries(keys.map(key => [key, this.acquire(id, key)])) });
    } else if (type === "unlock") {
      for (const key of keys) if (this.owner(key) === id) this.release(key);
    } else if (type === "bye") {
      this.#end(id);
      this.lose(link, 1000);
    } else if (type === "update") {
      const touched = [...Object.keys(updates), ...removals];
      const shared = touched.filter(key => /^(card|title)/.test(key));
      const taken = shared.filter(key => (this.owner(key) ?? id) !== id);
      const holds = ({ key, expected }) =>
        expected === "absent" ? !this.content.has(key) : this.content.get(key)?.revision === expected.at;
      const isMine = key => this.owner(key.replace("title", "card")) === id;
      const card = key => key.replace("title", "card");
      const isAsked = key => conditions.some(other => other.key === key || (other.key === card(key) && other.expected === "absent"));
      if (Object.values(updates).some(value => value.name === "refused" || value === "refused")) error("not_allowed", seq);
      else if (taken.length) this.#refuse(answer, seq, taken);
      else if (!conditions.every(holds) || shared.some(key => !isMine(key) && !isAsked(key))) error("conflict", seq);
      else {
        const revision = this.commit(updates, removals);
        if (shared.length) confirm({ type: "done", seq, revision });
      }
    }
  }

  #refuse(answer, seq, taken) {
    answer({ type: "refused", seq, locked: taken.map(key => ({ key, owner: this.owner(key), remaining: 1 })) });
  }

  #welcome(link, { name, session, position }) {
    const isKnown = session !== null && session?.secret === `${this.store}${session?.id}`;
    const id = isKnown ? session.id : String(++this.next);
    const before = this.sessions.get(id);
    if (before?.link) this.lose(before.link, 4001);
    this.sessions.set(id, { link });
    link.id = id;
    const welcome = { type: "welcome", session: { id, secret: `${this.store}${id}` }, resumed: !!before, lease_ms: this.lease };
    link.out.push(JSON.stringify(welcome));
    this.commit({ [`user.${id}`]: name ? { name } : {} });
    const [store, revision] = position?.split(":") ?? [];
    link.reached = store === this.store ? Number(revision) : null;
    this.frame(link);
    const locks = [...this.locks].map(([key, { owner, token }]) => [key, { owner, fencing_token: token, remaining: 1 }]);
    const full = { version: this.version, revision: this.revision, locks: Object.fromEntries(locks) };
    link.out.push(JSON.stringify({ type: "locks", delivery: { full } }));
    link.version = this.version;
  }

  // What has changed since the last frame of this connection.
  frame(link) {
    if (link.id === null || link.reached === this.revision) return;
    const isFull = link.reached === null, since = link.reached ?? -1;
    const changed = [...this.content].filter(([, { revision }]) => revision > since);
    const revisions = changed.filter(([key]) => /^(card|title)/.test(key)).map(([key, { revision }]) => [key, revision]);
    const delivery = {
      since, revision: this.revision, full: isFull,
      updates: Object.fromEntries(changed.map(([key, { value }]) => [key, value])), revisions: Object.fromEntries(revisions),
      removals: isFull ? [] : [...this.removed].filter(([, revision]) => revision > since).map(([key]) => key),
    };
    link.out.push(JSON.stringify({ type: "changes", position: `${this.store}:${this.revision}`, delivery }));
    link.reached = this.revision;
  }

  // What has become of locks since the last such message.
  lockFrame(link) {
    if (link.id === null || link.version === this.version) return;
    const events = this.events.filter(event => event.version > link.version);
    link.out.push(JSON.stringify({ type: "locks", delivery: { events } }));
    link.version = this.version;
  }
}
