// What the page knows and does, without DOM, socket or clock: `page.js` gives it those. The README describes its states.
//
// Three things are kept apart. `content` and `owners` are what the server has sent. `moves` and `edits` are what the user
// has done and the server has not confirmed. `held` are the locks that the server has granted and the page has not
// released. Whatever the user does ends in one of two ways: it is in the content, or the user reads that it is not.

import { Edits, changeOf, freeKey, isSame, isThere, keysOf, placeOf, room, titleKey } from "./cards.js";
import { Line } from "./line.js";
import { Locks } from "./locks.js";
import { LIMITS, partsOf, tellApart } from "./text.js";

const LINGER = 800; // ms after the last arrow key at which a card is let go of
const QUIET = 5000; // ms after which the server is asked for a sign of life
const MANY = 300; // places of one move of which the page knows that it has sent them
const UNCOUNTED = ["malformed", "too_large", "out_of_order"]; // errors about messages that do not count

export class Board {
  content = new Map(); // key -> { value, revision }
  names = new Map(); // id -> the name that is shown
  link = "down"; // then "greeting" until the welcome, "resuming" until the list of locks, and "live"
  session = null;
  name = "";
  drag = null; // the card that is being moved: { key, byKeys, wanted, until, renewed, touched }
  held = new Map(); // key -> token
  moves = new Map(); // key -> { key, value, base, isNew, isPending, sent, byLock, seq, revision }
  edits = new Edits(); // { kind, key, title, ..., isNew, isAgain, seq, revision }

  #io;
  #store = null; // the server's
  #position = null;
  #locked = new Locks();
  #lease = 5000;
  #own = new Map(); // key of a card or title -> the latest revision that the user has given it: never news to the user
  #pinged = 0;
  #line;
  #refusals = 0; // of the hello
  #given = []; // the names that the server was sent on this connection, without those that it has refused
  #cursor = null;
  #sentCursor; // what the server has; undefined if that is not known

  // `send(text)`; `reset()` gives the connection up; `now()` in ms; `say(parts, isNews)`: strings, and names and titles as
  // `{ name }`, and whether they can be missed without harm; `show(keys)` draws these anew; `shake(key)`; `changed()` if link,
  // name, session or hold may have changed.
  constructor(io) {
    this.#io = io;
    this.#line = new Line(io.send, io.now);
  }

  // ---- What is shown -----------------------------------------------------------------------------------------------------

  get isLive() { return this.link === "live"; }
  // The card that the user holds.
  get holding() { return this.isLive && this.drag && this.held.has(this.drag.key) ? this.drag.key : null; }
  // Of a locked card -> { id, token }.
  get owners() { return this.#locked.owners; }
  isMe(id) { return this.session?.id === id; }
  nameOf(id) { return this.names.get(id) ?? `Guest ${id}`; }
  titleOf(key) { return this.content.get(titleKey(key))?.value ?? key; }
  // Whether something would be lost if the page were closed now.
  get isUnsaved() { return [...this.moves.values(), ...this.edits].some(done => !done.revision) || !!this.drag?.wanted; }
  place(key) { return this.moves.get(key)?.value ?? this.content.get(key)?.value; }

  #nameAll() {
    const users = [...this.content].filter(([key]) => key.startsWith("user."));
    this.names = tellApart(users.map(([key, { value }]) => [key.slice(5), value.name]));
    return users.map(([key]) => key);
  }

  // Values are names and titles, which may be in any script, or lists of further parts.
  #say(texts, ...values) { this.#io.say(partsOf(texts, values), false); }
  // What can be missed without harm.
  #mention(texts, ...values) { this.#io.say(partsOf(texts, values), true); }

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
    for (const move of this.moves.values()) if (!move.revision) [move.isNew, move.isPending] = [true, false];
    for (const edit of this.edits) if (!edit.revision) [edit.isAgain, edit.isNew] = [edit.isAgain || !edit.isNew, true];
    this.#io.changed();
  }

  leave() {
    this.drop();
    if (this.link !== "down") this.#line.transmit({ type: "bye" });
  }

  #greet() {
    const { name, session } = this;
    const hello = { type: "hello", name: name || null, session, position: this.#position };
    this.#given = [{ kind: "hello", name, asked: true }];
    this.#line.transmit(hello, this.#given[0]);
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
    this.#io.changed();
  }

  #changes({ position, delivery: { revision, full, updates, revisions, removals } }) {
    const [store] = position.split(":");
    if (this.#store && this.#store !== store) this.#forget();
    [this.#store, this.#position] = [store, position];
    const touched = new Set([...Object.keys(updates), ...removals]);
    const kept = key => full && Object.hasOwn(updates, key);
    for (const key of full ? [...this.content.keys()] : removals) {
      touched.add(key);
      if (!kept(key)) this.#remove(key);
    }
    const users = Object.keys(updates).filter(key => key.startsWith("user.") && !this.content.has(key));
    for (const [key, value] of Object.entries(updates)) this.content.set(key, { value, revision: revisions[key] });
    if ([...touched].some(key => key.startsWith("user."))) for (const key of this.#nameAll()) touched.add(key);
    for (const id of users.map(key => key.slice(5))) if (this.isLive && !this.isMe(id)) this.#mention`${this.nameOf(id)} is here.`;
    for (const move of this.moves.values()) if (move.revision) this.#arrived(move, revision);
    for (const edit of this.edits) if (edit.revision) this.#arrived(edit, revision);
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
    if (kind === "user" && this.isLive && !this.isMe(id)) this.#mention`${this.nameOf(id)} left.`;
    if (kind === "card") {
      const isLost = this.drag?.key === key || this.moves.get(key)?.revision === 0;
      if (isLost) this.#say`“${this.titleOf(key)}” was removed, and your move with it.`;
      else if (this.isLive && !this.edits.isGoing(key)) this.#say`“${this.titleOf(key)}” was removed.`;
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
    this.#own.clear();
    this.#locked.version = 0;
  }

  #locks({ delivery }) {
    const touched = this.#locked.apply(delivery), isResumed = this.link === "resuming" && delivery.full !== undefined;
    for (const [key, token] of this.held) if (this.#locked.isGone(key, this.session.id, token, isResumed)) this.#unhand(key);
    if (isResumed) this.#resumed();
    this.#io.show(touched);
  }

  #resumed() {
    this.link = "live";
    this.#line.answered(Infinity);
    if (this.name !== this.#given[0].name) this.introduce(this.name);
    for (const [key, { id, token }] of this.owners) if (this.isMe(id)) this.held.set(key, token);
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
    for (const key of keysOf(owner)) this.#own.set(key, revision);
    if (owner.seq !== seq) return;
    [owner.isPending, owner.sent] = [false, []];
    if (owner.isNew) return;
    owner.revision = revision;
    if (this.edits.has(owner)) this.#mention`“${owner.title}” was ${[owner.kind]}.`;
    this.#arrived(owner, Number(this.#position?.split(":")[1]));
  }

  #refused({ seq, locked: [{ key, owner }] }) {
    this.#io.shake(key);
    this.#fail(seq, [{ name: this.nameOf(owner) }, " holds it"]);
  }

  #error({ code, message, seq, expected }) {
    // What was sent may be carried out or not. The next connection shows that, and sends it again if need be.
    if (code === "unavailable") this.#io.reset();
    else if (this.link === "greeting") this.#greetAgain(code, message, expected);
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
      this.#given = this.#given.filter(given => given !== owner);
      this.name = this.#given.at(-1).name;
      this.#io.changed();
    } else if (this.edits.has(owner) || this.moves.get(key) === owner) {
      if (owner.byLock) this.#unhand(key);
      if (seq !== owner.seq) return;
      owner.isPending = false;
      if (owner.isNew) return;
      // What was sent as the lock's owner can still be right, if nobody has moved the card; another number may be free.
      if (isFinal) this.#lose(owner, why);
      else if (owner.byLock || kind === "added") owner.isNew = true;
      else this.#lose(owner, why);
    }
  }

  // The user reads that something is not going to be in the content.
  #lose(done, why, was = "was not") {
    this.edits.delete(done);
    if (this.moves.get(done.key) === done) this.moves.delete(done.key);
    this.#say`“${done.title}” ${[was]} ${[done.kind]}: ${why}.`;
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
    if (this.edits.isGoing(key)) return this.#say`“${this.titleOf(key)}” is being removed.`;
    this.#flush(); // a lock that has lapsed is given back: the next is another
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
    const { key, wanted } = this.drag;
    this.drag = null;
    if (wanted) this.#want(key, wanted);
    this.#io.changed();
    this.#flush();
  }

  #want(key, value) {
    const { revision } = this.content.get(key);
    const begun = { kind: "moved", asked: true, key, title: this.titleOf(key), base: revision, isPending: false, sent: [] };
    const move = this.moves.get(key) ?? begun;
    this.moves.set(key, Object.assign(move, { value, isNew: true, byLock: false, revision: 0 }));
    this.#io.show([key]);
  }

  // The card as the user sees it, which a change of it is conditional on.
  look(key) {
    const [card, titled] = [key, titleKey(key)].map(key => this.content.get(key)?.revision);
    return { key, title: this.edits.titleOf(key) ?? this.titleOf(key), card, titled };
  }

  // Whether it is on its way.
  add(title) {
    if (!this.#mayAct()) return false;
    const cards = [...this.content.keys()].filter(key => key.startsWith("card.")).map(key => this.place(key));
    this.#edit({ kind: "added", title, place: room(cards), tried: new Set() });
    return true;
  }

  rename(look, title) {
    if (title === look.title) return;
    if (!this.isLive) this.#say`“${look.title}” is renamed when the connection is back.`;
    this.#edit({ ...look, kind: "renamed", wanted: title });
  }

  remove(look) {
    if (this.drag?.key === look.key) this.drop();
    if (!this.edits.isGoing(look.key) && this.#mayAct()) this.#edit({ ...look, kind: "removed" });
  }

  #edit(edit) {
    this.edits.add(Object.assign(edit, { asked: true, isNew: true, isAgain: false, revision: 0 }));
    this.#flush();
  }

  // What the user knows of a key: what was seen, or the user's own later change.
  #known(key, seen) {
    return Math.max(seen, this.#own.get(key) ?? 0);
  }

  // Sends a change of a whole card. If it was sent before, on a connection that was lost, it may be in the content already.
  #attempt(edit) {
    const { kind, isAgain } = edit;
    [edit.isNew, edit.isAgain] = [false, false];
    if (isAgain && isThere(edit, this.content)) {
      for (const key of keysOf(edit)) this.#own.set(key, this.#known(key, this.content.get(key)?.revision ?? 0));
      this.edits.delete(edit);
      return this.#mention`“${edit.title}” was ${[kind]}.`;
    }
    if (kind === "added") {
      // Moved since, or the card of another.
      if (isAgain && this.content.has(edit.key)) return this.#lose(edit, ["the connection was lost"], "may not have been");
      if (!isAgain) edit.key = freeKey(this.content, edit.tried);
      if (!edit.key) return this.#lose(edit, [`there are ${LIMITS.cards} cards already`]);
      edit.tried.add(edit.key);
    } else if (!this.content.has(edit.key)) return this.#lose(edit, ["it is gone"]);
    const change = changeOf(edit, this.#known(edit.key, edit.card), this.#known(titleKey(edit.key), edit.titled));
    this.#line.transmit({ type: "update", change }, edit);
  }

  introduce(name) {
    this.name = name;
    if (!this.isLive) return; // the hello will say it
    const change = { updates: { [`user.${this.session.id}`]: name ? { name } : {} } };
    this.#given.push({ kind: "name", name });
    this.#line.transmit({ type: "update", change }, this.#given.at(-1));
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
    if (this.isLive && now - this.#pinged > QUIET && !this.#line.isAsked()) {
      this.#pinged = now;
      this.#line.transmit({ type: "renew", keys: [] }, { kind: "ping", asked: true });
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
    for (const edit of this.edits) if (edit.isNew && !this.edits.isWaiting(edit, this.moves)) this.#attempt(edit);
    const given = [...this.held.keys()].filter(key => key !== this.drag?.key);
    if (given.length) this.#line.transmit({ type: "unlock", keys: given });
    for (const key of given) this.held.delete(key);
    const key = `cursor.${this.session.id}`;
    if (isSame(this.#cursor, this.#sentCursor)) return;
    this.#sentCursor = this.#cursor;
    if (this.#cursor) this.#line.transmit({ type: "update", change: { updates: { [key]: this.#cursor } } });
    else this.#line.transmit({ type: "update", change: { removals: [key] } });
  }

  // The lock's owner sends at once. Else one move is sent after the other, each on condition of the one before.
  #sendMove(move) {
    const { key, value } = move, byLock = this.held.has(key);
    if (!byLock && move.isPending) return;
    const change = { updates: { [key]: value } };
    if (!byLock) {
      const { value: there, revision } = this.content.get(key), place = placeOf(there);
      // A place that was sent before the connection was lost.
      if ([value, ...move.sent].some(sent => isSame(sent, place))) this.#own.set(key, this.#known(key, revision));
      const known = this.#known(key, move.base);
      if (known <= revision && isSame(place, value)) return this.moves.delete(key);
      change.conditions = [{ key, expected: { at: known } }];
    }
    Object.assign(move, { isNew: false, isPending: true, byLock, sent: [...move.sent, value].slice(-MANY) });
    this.#line.transmit({ type: "update", change }, move);
  }
}
