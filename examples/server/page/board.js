// What the page knows and does, without DOM, socket or clock: `page.js` gives it those. The README describes its states.
//
// Three things are kept apart. `content` and `holders` are what the server has sent. `moves` and `edits` are what the user
// has done and the server has not confirmed. `held` are the locks that the server has granted and the page has not
// released. Whatever the user does ends in one of two ways: it is in the content, or the user reads that it is not.

import { Line } from "./line.js";
import { LIMITS } from "./text.js";

const LINGER = 800; // ms after the last arrow key at which a card is let go of
const UNCOUNTED = ["malformed", "too_large", "out_of_order"]; // errors about messages that do not count

const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const clamp = value => Math.min(Math.max(Number.isFinite(value) ? value : 0, 0), 1);
const placeOf = ({ x, y }) => ({ x: clamp(x), y: clamp(y) });
const titleKey = key => key.replace("card", "title");

export class Board {
  content = new Map(); // key -> { value, revision }
  holders = new Map(); // key of a locked card -> { id, token }
  names = new Map(); // id -> the name that is shown
  link = "down"; // then "greeting" until the welcome, "resuming" until the list of locks, and "live"
  session = null;
  name = "";
  drag = null; // the card that is being moved: { key, byKeys, wanted, until, renewed, touched }
  held = new Map(); // key -> token
  moves = new Map(); // key -> { key, value, base, isNew, byLock, seq, revision }
  edits = new Set(); // cards that are being added, renamed or removed: { kind, key, title, ..., seq, revision }

  #io;
  #store = null; // the server's
  #position = null;
  #version = 0; // of the latest lock event
  #lease = 5000;
  #line;
  #refusals = 0; // of the hello
  #cursor = null;
  #sentCursor; // what the server has; undefined if that is not known

  // `send(text)`; `reset()` gives the connection up; `now()` in ms; `say(parts)`: strings, and names and titles as
  // `{ name }`; `show(keys)` draws these anew; `shake(key)`; `changed()` if link, name, session or hold may have changed.
  constructor(io) {
    this.#io = io;
    this.#line = new Line(io.send, io.now);
  }

  // ---- What is shown -----------------------------------------------------------------------------------------------------

  get isLive() { return this.link === "live"; }
  // The card that the user holds.
  get holding() { return this.isLive && this.drag && this.held.has(this.drag.key) ? this.drag.key : null; }
  isMe(id) { return this.session?.id === id; }
  nameOf(id) { return this.names.get(id) ?? `Guest ${id}`; }
  titleOf(key) { return this.content.get(titleKey(key))?.value ?? key; }
  place(key) { return this.moves.get(key)?.value ?? this.content.get(key)?.value; }

  // People of one name are told apart by their ids.
  #nameAll() {
    const users = [...this.content].filter(([key]) => key.startsWith("user."));
    const named = users.map(([key, { value }]) => [key.slice(5), value.name ?? `Guest ${key.slice(5)}`]);
    const plain = name => name.normalize("NFKC").toLowerCase();
    const counts = new Map();
    for (const [, name] of named) counts.set(plain(name), (counts.get(plain(name)) ?? 0) + 1);
    this.names = new Map(named.map(([id, name]) => [id, counts.get(plain(name)) > 1 ? `${name} (${id})` : name]));
    return users.map(([key]) => key);
  }

  // Values are names and titles, which may be in any script, or lists of further parts.
  #say(texts, ...values) {
    const part = value => Array.isArray(value) ? value : [{ name: value }];
    this.#io.say(texts.flatMap((text, index) => index < values.length ? [text, ...part(values[index])] : [text]));
  }

  // ---- The connection ----------------------------------------------------------------------------------------------------

  opened() {
    this.link = "greeting";
    this.#refusals = 0;
    this.#line.begin();
    this.#greet();
  }

  closed(code) {
    // The session goes on in another tab, so this one begins a new one.
    if (code === 4001) this.session = null;
    if (this.drag && !this.held.has(this.drag.key)) this.#unhand(this.drag.key, ["there is no connection"]);
    this.link = "down";
    this.#sentCursor = undefined;
    for (const move of this.moves.values()) if (!move.revision) move.isNew = true;
    this.#io.changed();
  }

  leave() {
    if (this.link !== "down") this.#line.transmit({ type: "bye" });
  }

  #greet() {
    const { name, session } = this;
    const hello = { type: "hello", name: name || null, session, position: this.#position };
    this.#line.transmit(hello, { kind: "hello", asked: true });
  }

  receive(message) {
    const handlers = {
      welcome: this.#welcome, changes: this.#changes, locks: this.#locks, granted: this.#granted, done: this.#done,
      refused: this.#refused, error: this.#error,
    };
    if (Object.hasOwn(handlers, message?.type)) handlers[message.type].call(this, message);
    this.#flush();
  }

  #welcome({ session, lease_ms }) {
    [this.session, this.#lease, this.link] = [session, lease_ms, "resuming"];
    this.#line.answered(Infinity);
    this.#io.changed();
  }

  #changes({ position, delivery: { to, fresh_start, updates, revisions, removals } }) {
    const [store] = position.split(":");
    if (this.#store && this.#store !== store) this.#forget();
    [this.#store, this.#position] = [store, position];
    const touched = new Set([...Object.keys(updates), ...removals]);
    const kept = key => fresh_start && Object.hasOwn(updates, key);
    for (const key of fresh_start ? [...this.content.keys()] : removals) {
      touched.add(key);
      if (!kept(key)) this.#remove(key);
    }
    const users = Object.keys(updates).filter(key => key.startsWith("user.") && !this.content.has(key));
    for (const [key, value] of Object.entries(updates)) this.content.set(key, { value, revision: revisions[key] });
    if ([...touched].some(key => key.startsWith("user."))) for (const key of this.#nameAll()) touched.add(key);
    for (const id of users.map(key => key.slice(5))) if (this.isLive && !this.isMe(id)) this.#say`${this.nameOf(id)} is here.`;
    for (const move of this.moves.values()) if (move.revision) this.#arrived(move, to);
    for (const edit of this.edits) if (edit.revision) this.#arrived(edit, to);
    this.#io.show(touched);
  }

  // Forgets what the user has done once the content has it.
  #arrived(done, reached) {
    if (done.revision > reached) return;
    this.edits.delete(done);
    if (this.moves.get(done.key) === done) this.moves.delete(done.key);
  }

  #remove(key) {
    if (!this.content.has(key)) return;
    const [kind, id] = key.split(".");
    if (kind === "user" && this.isLive && !this.isMe(id)) this.#say`${this.nameOf(id)} left.`;
    if (kind === "card") {
      const isMine = [...this.edits].some(edit => edit.kind === "removed" && edit.key === key);
      const isLost = this.drag?.key === key || this.moves.get(key)?.revision === 0;
      if (isLost) this.#say`“${this.titleOf(key)}” was removed, and your move with it.`;
      else if (this.isLive && !isMine) this.#say`“${this.titleOf(key)}” was removed.`;
      if (this.drag?.key === key) this.drag = null;
      this.moves.delete(key);
      this.#io.changed();
    }
    this.content.delete(key);
  }

  // The server has begun anew: the revisions, locks and sessions of before mean nothing to it.
  #forget() {
    for (const move of this.moves.values()) this.#lose(move, ["the server has begun anew"]);
    for (const edit of this.edits) this.#lose(edit, ["the server has begun anew"]);
    for (const key of this.held.keys()) this.#unhand(key, ["the server has begun anew"]);
    this.#version = 0;
  }

  #locks({ delivery: { everything, events = [] } }) {
    const touched = new Set([...this.holders.keys(), ...events.map(event => event.key)]);
    const set = (key, { holder, fencing_token }) => this.holders.set(key, { id: holder, token: fencing_token });
    if (everything) {
      this.holders.clear();
      for (const [key, lock] of Object.entries(everything.locks)) set(key, lock);
      this.#version = everything.version;
    }
    const before = this.#version;
    for (const event of events.filter(event => event.version > before)) {
      if (event.kind === "granted") set(event.key, event);
      else this.holders.delete(event.key);
      this.#version = event.version;
    }
    const isResumed = this.link === "resuming" && everything !== undefined;
    // A lock that was granted after the latest event cannot be among them.
    for (const [key, token] of this.held) {
      const holder = this.holders.get(key);
      if ((isResumed || token <= this.#version) && (holder?.token !== token || !this.isMe(holder.id))) this.#unhand(key);
    }
    if (isResumed) this.#resumed();
    for (const key of this.holders.keys()) touched.add(key);
    this.#io.show(touched);
  }

  #resumed() {
    this.link = "live";
    for (const [key, { id, token }] of this.holders) if (this.isMe(id)) this.held.set(key, token);
    for (const edit of this.edits) if (!edit.revision) this.#attempt(edit, true);
    this.#io.changed();
  }

  // ---- Answers -----------------------------------------------------------------------------------------------------------

  #granted({ seq, tokens }) {
    const { at, owner } = this.#line.answered(seq);
    for (const [key, token] of Object.entries(tokens)) {
      const isCurrent = owner?.drag === this.drag;
      // An answer to an earlier request for the same card: the answer to the latest is going to come.
      if (this.drag?.key === key && !isCurrent) continue;
      this.held.set(key, token);
      if (!isCurrent) continue;
      this.drag.until = at + this.#lease;
      if (this.drag.wanted) this.#want(key, this.drag.wanted);
      this.drag.wanted = null;
      this.#io.show([key]);
    }
    this.#io.changed();
  }

  #done({ seq, revision }) {
    const { owner } = this.#line.answered(seq);
    if (!owner) return;
    owner.base = revision;
    if (owner.seq !== seq || owner.isNew) return;
    owner.revision = revision;
    if (this.edits.has(owner)) this.#say`“${owner.title}” was ${[owner.kind]}.`;
    this.#arrived(owner, Number(this.#position?.split(":")[1]));
  }

  #refused({ seq, locked: [{ key, holder }] }) {
    this.#io.shake(key);
    this.#fail(seq, [{ name: this.nameOf(holder) }, " holds it"]);
  }

  #error({ code, message, seq, expected }) {
    if (this.link === "greeting") this.#greetAgain(code, message, expected);
    else if (UNCOUNTED.includes(code)) {
      const explained = this.#line.resync(code, expected);
      if (!explained) this.#io.reset();
      else if (explained.lost) this.#failed(explained.lost, explained.lost.seq, [message], true);
    }
    else if (code === "conflict") this.#fail(seq, ["it has changed in the meantime"]);
    else this.#fail(seq, [message], true);
  }

  // A hello can be refused for its name, or for a session and a position that the server cannot read: not for ever.
  #greetAgain(code, message, expected) {
    this.#line.restart(expected);
    if (this.#refusals++ > 1) return this.#io.reset();
    if (code === "not_allowed" && this.name) {
      this.#say`The server does not accept “${this.name}”: ${[message]}.`;
      this.name = "";
    } else {
      [this.session, this.#position] = [null, null];
    }
    this.#io.changed();
    this.#greet();
  }

  #fail(seq, why, isFinal = false) {
    const { owner } = this.#line.answered(seq);
    if (owner) this.#failed(owner, seq, why, isFinal);
    else this.#say`A change was not made: ${why}.`;
  }

  #failed(owner, seq, why, isFinal) {
    const { kind, key } = owner;
    if (kind === "lock" || kind === "renew") {
      if (this.drag === owner.drag) this.#unhand(key, why);
    } else if (kind === "name") {
      this.#say`Your name was not changed: ${why}.`;
      this.name = this.content.get(`user.${this.session?.id}`)?.value.name ?? "";
      this.#io.changed();
    } else if (this.edits.has(owner) || this.moves.get(key) === owner) {
      if (owner.byLock) this.#unhand(key);
      if (seq !== owner.seq || owner.isNew) return;
      // What was sent as the lock's owner can still be right, if nobody has moved the card; another number may be free.
      if (isFinal) this.#lose(owner, why);
      else if (owner.byLock) owner.isNew = true;
      else if (kind === "added") this.#attempt(owner);
      else this.#lose(owner, why);
    }
  }

  // The user reads that something is not going to be in the content.
  #lose(done, why) {
    this.edits.delete(done);
    if (this.moves.get(done.key) === done) this.moves.delete(done.key);
    this.#say`“${done.title}” was not ${[done.kind]}: ${why}.`;
    this.#io.show([done.key]);
  }

  // The lock is lost, or is not granted.
  #unhand(key, why = ["it was not renewed in time"]) {
    const isLost = this.held.delete(key);
    if (this.drag?.key !== key) return;
    this.drag = null;
    if (isLost) this.#say`You no longer hold “${this.titleOf(key)}”: ${why}.`;
    else this.#say`You cannot move “${this.titleOf(key)}”: ${why}.`;
    this.#io.show([key]);
    this.#io.changed();
  }

  // ---- What the user does ------------------------------------------------------------------------------------------------

  #mayAct() {
    if (!this.isLive) this.#say`There is no connection. Try again when it is back.`;
    return this.isLive;
  }

  // Takes hold of a card: nothing moves until the lock is granted.
  pick(key, byKeys = false) {
    if (this.drag) this.drop();
    if (!this.content.has(key) || !this.#mayAct()) return;
    const now = this.#io.now();
    this.drag = { key, byKeys, wanted: null, until: 0, renewed: now, touched: now };
    this.#line.transmit({ type: "lock", keys: [key] }, { kind: "lock", asked: true, key, drag: this.drag });
  }

  move(to) {
    this.#lapse();
    if (!this.drag) return;
    this.drag.touched = this.#io.now();
    if (this.held.has(this.drag.key)) this.#want(this.drag.key, placeOf(to));
    else this.drag.wanted = placeOf(to);
  }

  // A step with the arrow keys.
  nudge(key, dx, dy) {
    if (this.drag?.key !== key) this.pick(key, true);
    if (this.drag?.key !== key || !this.drag.byKeys) return;
    const { x, y } = this.drag.wanted ?? this.place(key);
    this.move({ x: x + dx, y: y + dy });
  }

  drop() {
    this.#lapse();
    if (!this.drag) return;
    this.drag = null;
    this.#io.changed();
    this.#flush();
  }

  #want(key, value) {
    const { revision } = this.content.get(key);
    const move = this.moves.get(key) ?? { kind: "moved", asked: true, key, title: this.titleOf(key), base: revision };
    this.moves.set(key, Object.assign(move, { value, isNew: true, byLock: false, revision: 0 }));
    this.#io.show([key]);
  }

  // The card as the user sees it, which a change of it is conditional on. The own changes that the server has confirmed are
  // not news, though they have not come back yet.
  look(key) {
    const [card, titled] = [key, titleKey(key)].map(key => this.content.get(key)?.revision);
    const renamed = [...this.edits].filter(edit => edit.key === key && edit.kind === "renamed" && edit.revision).pop();
    const title = renamed?.wanted ?? this.titleOf(key);
    return { key, title, card: this.moves.get(key)?.revision || card, titled: renamed?.revision ?? titled };
  }

  // Whether it is on its way.
  add(title) {
    if (!this.#mayAct()) return false;
    this.#attempt({ kind: "added", asked: true, title, place: this.#room(), tried: new Set() });
    return true;
  }

  rename(look, title) {
    if (title !== look.title && this.#mayAct()) this.#attempt({ ...look, kind: "renamed", asked: true, wanted: title });
  }

  remove(look) {
    if (this.#mayAct()) this.#attempt({ ...look, kind: "removed", asked: true });
  }

  // Of 25 places, the one that is farthest from all cards.
  #room() {
    const cards = [...this.content.keys()].filter(key => key.startsWith("card.")).map(key => this.place(key));
    const places = Array.from({ length: 25 }, (_, index) => ({ x: index % 5 / 4, y: Math.floor(index / 5) / 4 }));
    const distance = place => Math.min(...cards.map(card => Math.hypot(card.x - place.x, card.y - place.y)), 2);
    return places.reduce((best, place) => distance(place) > distance(best) ? place : best);
  }

  // Sends a change of a whole card. `isAgain`: it may be in the content already, for the connection was lost.
  #attempt(edit, isAgain = false) {
    const { kind, place, title, wanted, tried, card, titled } = edit;
    if (isAgain && this.#isThere(edit)) return this.edits.delete(edit);
    if (kind === "added") {
      if (isAgain) tried.delete(edit.key);
      const numbers = Array.from({ length: LIMITS.cards }, (_, index) => `card.${index + 1}`);
      edit.key = numbers.find(key => !this.content.has(key) && !tried.has(key));
      if (!edit.key) return this.#lose(edit, [`there are ${LIMITS.cards} cards already`]);
      tried.add(edit.key);
    }
    const { key } = edit, at = (key, revision) => ({ key, expected: { at: revision } });
    this.edits.add(edit);
    const change = {
      added: { updates: { [key]: place, [titleKey(key)]: title }, conditions: [{ key, expected: "absent" }] },
      renamed: { updates: { [titleKey(key)]: wanted }, conditions: [at(titleKey(key), titled)] },
      removed: { removals: [key, titleKey(key)], conditions: [at(key, card), at(titleKey(key), titled)] },
    }[kind];
    this.#line.transmit({ type: "update", change }, edit);
  }

  #isThere({ kind, key, title, wanted }) {
    if (kind === "removed") return !this.content.has(key);
    return this.content.get(titleKey(key))?.value === (kind === "added" ? title : wanted);
  }

  introduce(name) {
    this.name = name;
    if (!this.isLive) return; // the hello will say it
    const change = { updates: { [`user.${this.session.id}`]: name ? { name } : {} } };
    this.#line.transmit({ type: "update", change }, { kind: "name" });
  }

  // The user's pointer on the board, or null.
  point(place) {
    this.#cursor = place && placeOf(place);
  }

  // ---- Time --------------------------------------------------------------------------------------------------------------

  // To be called thirty times a second. A page that stood still finds out here that its lock may be gone.
  tick() {
    this.#lapse();
    const now = this.#io.now(), { drag } = this;
    if (drag?.byKeys && now - drag.touched > LINGER) this.drop();
    else if (this.holding && now - drag.renewed > this.#lease / 3) {
      drag.renewed = now;
      this.#line.transmit({ type: "renew", keys: [drag.key] }, { kind: "renew", asked: true, key: drag.key, drag });
    }
    if (this.#line.isOverdue()) this.#io.reset();
    else this.#flush();
  }

  // The lock may still be there, which the server knows: the last move is sent, and the lock is released, if it is.
  #lapse() {
    if (!this.drag?.until || this.#io.now() < this.drag.until) return;
    const { key } = this.drag, token = this.held.get(key);
    this.#unhand(key);
    if (token) this.held.set(key, token);
  }

  // Sends what the server does not have.
  #flush() {
    if (!this.isLive) return;
    for (const move of this.moves.values()) if (move.isNew) this.#sendMove(move);
    const given = [...this.held.keys()].filter(key => key !== this.drag?.key);
    if (given.length) this.#line.transmit({ type: "unlock", keys: given });
    for (const key of given) this.held.delete(key);
    const key = `cursor.${this.session.id}`;
    if (isSame(this.#cursor, this.#sentCursor)) return;
    this.#sentCursor = this.#cursor;
    if (this.#cursor) this.#line.transmit({ type: "update", change: { updates: { [key]: this.#cursor } } });
    else this.#line.transmit({ type: "update", change: { removals: [key] } });
  }

  #sendMove(move) {
    const { key, value } = move;
    move.isNew = false;
    move.byLock = this.held.has(key);
    const change = { updates: { [key]: value } };
    if (!move.byLock) {
      if (isSame(placeOf(this.content.get(key).value), value)) return this.moves.delete(key);
      change.conditions = [{ key, expected: { at: move.base } }];
    }
    this.#line.transmit({ type: "update", change }, move);
  }
}
