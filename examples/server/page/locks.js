// Who has locked which card, by the server's messages.

export class Locks {
  owners = new Map(); // key of a locked card -> { id, token }
  version = 0; // of the latest event

  // Takes in a delivery. The result is the keys of cards that were or are locked.
  apply({ full, events = [] }) {
    const touched = new Set([...this.owners.keys(), ...events.map(event => event.key)]);
    const set = (key, { owner, fencing_token }) => this.owners.set(key, { id: owner, token: fencing_token });
    if (full) {
      this.owners.clear();
      for (const [key, lock] of Object.entries(full.locks)) set(key, lock);
      this.version = full.version;
    }
    const before = this.version;
    for (const event of events.filter(event => event.version > before)) {
      if (event.kind === "granted") set(event.key, event);
      else this.owners.delete(event.key);
      this.version = event.version;
    }
    for (const key of this.owners.keys()) touched.add(key);
    return touched;
  }

  // Whether this lock is not there any more. One that was granted after the latest event cannot be among them.
  isGone(key, id, token, isComplete) {
    const owner = this.owners.get(key);
    return (isComplete || token <= this.version) && (owner?.token !== token || owner.id !== id);
  }
}
