// The numbers of messages, and which of them may still be under way.

const PATIENCE = 10000; // ms for the server to answer
const LONGEST = 300; // messages that are remembered, beside those that are asked
const OVERDUE = 15; // looks in a row that find an answer overdue: those that came while the page stood still are read first

export class Line {
  #send;
  #now;
  #seq = 0;
  #log = []; // { seq, message, owner, at, isRepeated }
  #stale = { expected: 0, count: 0 }; // errors that will follow from one message that did not count
  #overdue = 0;

  constructor(send, now) {
    [this.#send, this.#now] = [send, now];
  }

  // A new connection.
  begin() {
    [this.#seq, this.#log, this.#stale, this.#overdue] = [0, [], { expected: 0, count: 0 }, 0];
  }

  // The owner is what the message was sent for. It is given the number. If it is `asked`, an answer must come.
  transmit(message, owner = null, isRepeated = false) {
    const seq = ++this.#seq;
    if (owner) owner.seq = seq;
    this.#log.push({ seq, message, owner, isRepeated, at: this.#now() });
    // What is asked for is kept: its answer is waited for, and has an owner.
    const oldest = this.#log.length > LONGEST ? this.#log.findIndex(({ owner }) => !owner?.asked) : -1;
    if (oldest >= 0) this.#log.splice(oldest, 1);
    this.#send(JSON.stringify({ seq, ...message }));
  }

  // The message with this number, which the server has dealt with, as with all before it; an empty object if it is not known.
  answered(seq) {
    const entry = this.#log.find(entry => entry.seq === seq) ?? {};
    this.#log = this.#log.filter(entry => entry.seq > seq);
    return entry;
  }

  // Whether an answer is waited for.
  isAsked() {
    return this.#log.some(({ owner }) => owner?.asked);
  }

  // Whether the connection is dead though it is open. To be asked thirty times a second.
  isOverdue() {
    const now = this.#now();
    this.#overdue = this.#log.some(({ owner, at }) => owner?.asked && now - at > PATIENCE) ? this.#overdue + 1 : 0;
    return this.#overdue > OVERDUE;
  }

  // A message did not count, so those under way after it do not either: each will be answered with an error that expects the
  // same number. All are sent again, with the numbers that the server expects. One that is wrong again is given up: `lost` is
  // what it was sent for. The result is null if the numbers cannot be explained, so that only a new connection helps.
  resync(code, expected) {
    if (expected === this.#stale.expected && this.#stale.count-- > 0) return {};
    const again = this.#log.filter(entry => entry.seq >= expected);
    const unknown = this.#seq + 1 - expected - again.length;
    if (unknown < 0 || unknown > 1) return null;
    this.#stale = { expected, count: again.length - 1 };
    [this.#seq, this.#log] = [expected - 1, []];
    const isKnown = code !== "out_of_order" && again[0]?.seq === expected;
    const lost = isKnown && again[0].isRepeated ? again.shift().owner : null;
    for (const [index, { message, owner, isRepeated }] of again.entries()) {
      this.transmit(message, owner, isRepeated || (isKnown && !lost && index === 0));
    }
    return { lost };
  }

  // Nothing that was sent has counted, and the server expects this number.
  restart(expected) {
    [this.#seq, this.#log] = [expected - 1, []];
  }
}
