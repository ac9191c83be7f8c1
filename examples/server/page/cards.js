// Cards: their keys and places, and the changes of a whole card that the user has made.

import { LIMITS } from "./text.js";

export const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);
export const titleKey = key => key.replace("card", "title");

const clamp = value => Math.min(Math.max(Number.isFinite(value) ? value : 0, 0), 1);
export const placeOf = ({ x, y }) => ({ x: clamp(x), y: clamp(y) });

// Of 25 places, the one that is farthest from all these, and beside it by less than can be seen: no two are the same, so
// that a card is known by it.
export function room(cards) {
  const places = Array.from({ length: 25 }, (_, index) => ({ x: index % 5 / 4, y: Math.floor(index / 5) / 4 }));
  const distance = place => Math.min(...cards.map(card => Math.hypot(card.x - place.x, card.y - place.y)), 2);
  const { x, y } = places.reduce((best, place) => distance(place) > distance(best) ? place : best);
  const beside = value => Math.abs(value - Math.random() / 1e6);
  return { x: beside(x), y: beside(y) };
}

// The first card that is neither there nor tried; undefined if there is none.
export function freeKey(content, tried) {
  const keys = Array.from({ length: LIMITS.cards }, (_, index) => `card.${index + 1}`);
  return keys.find(key => !content.has(key) && !tried.has(key));
}

// The keys that an edit or a move writes.
export function keysOf({ kind, key }) {
  return { moved: [key], renamed: [titleKey(key)] }[kind] ?? [key, titleKey(key)];
}

// What makes an edit, if the card and its title have these revisions.
export function changeOf({ kind, key, place, title, wanted }, card, titled) {
  const at = (key, revision) => ({ key, expected: { at: revision } });
  return {
    added: { updates: { [key]: place, [titleKey(key)]: title }, conditions: [{ key, expected: "absent" }] },
    renamed: { updates: { [titleKey(key)]: wanted }, conditions: [at(titleKey(key), titled)] },
    removed: { removals: keysOf({ key }), conditions: [at(key, card), at(titleKey(key), titled)] },
  }[kind];
}

// Whether the content has what the edit was to make.
export function isThere({ kind, key, place, wanted }, content) {
  if (kind === "removed") return !content.has(key);
  if (kind === "added") return isSame(content.get(key)?.value, place);
  return content.get(titleKey(key))?.value === wanted;
}

// Cards that are being added, renamed or removed, in the order in which the user did it.
export class Edits extends Set {
  // Whether the user has removed the card, and it is not gone yet.
  isGoing(key) {
    return [...this].some(edit => edit.kind === "removed" && edit.key === key);
  }

  // The title that the user has given the card, if it is not in the content yet.
  titleOf(key) {
    return [...this].filter(edit => edit.kind === "renamed" && edit.key === key).pop()?.wanted;
  }

  // Whether own changes of the card must be confirmed first, for this one is conditional on their revisions.
  isWaiting(edit, moves) {
    const { kind, key } = edit, all = [...this];
    if (kind === "added") return false;
    if (kind === "removed" && moves.get(key)?.revision === 0) return true;
    return all.slice(0, all.indexOf(edit)).some(other => other.key === key && !other.revision);
  }
}
