// Who has locked which card, by the server's messages.

export class Locks {
  holders = new Map(); // key of a locked card -> { id, token }
  version = 0; // of the latest event

  // Takes in a delivery. The result is the keys of cards that were or are locked.
  apply({ everything, events = [] }) {
    const touched = new Set([...this.holders.keys(), ...events.map(event => event.key)]);
    const set = (key, { holder, fencing_token }) => this.holders.set(key, { id: holder, token: fencing_token });
    if (everything) {
      this.holders.clear();
      for (const [key, lock] of Object.entries(everything.locks)) set(key, lock);
      this.version = everything.version;
    }
    const before = this.version;
    for (const event of events.filter(event => event.version > before)) {
      if (event.kind === "granted") set(event.key, event);
      else this.holders.delete(event.key);
      this.version = event.version;
    }
    for (const key of this.holders.keys()) touched.add(key);
    return touched;
  }

  // Whether this lock is not there any more. One that was granted after the latest event cannot be among them.
  isGone(key, id, token, isComplete) {
    const holder = this.holders.get(key);
    return (isComplete || token <= this.version) && (holder?.token !== token || holder.id !== id);
  }
}
