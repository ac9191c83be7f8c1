// The rule for names and titles, which the README says in words: the page cleans what is typed, and the server refuses what
// does not keep to it (`src/text.rs`). `tests/texts.json` has examples that both are tested with.

export const LIMITS = { name: 32, title: 60, cards: 100 };

// Control, format, private and unassigned characters, white space, what Unicode says is not drawn, and five blanks that it
// counts among letters and symbols.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\ufffc\u{13441}\u{13442}\u{1d159}]/gu;

// The text as the README's rule for names and titles wants it; empty if there is nothing in it that can be seen.
export function clean(text, longest) {
  const spaced = text => text.replace(/\s+/gu, " ").trim();
  const seen = spaced(String(text).normalize("NFC").replace(/\s/gu, " ").replace(UNSEEN, ""));
  const based = seen.replace(/(^| )\p{M}+/gu, "$1").replace(/(\p{M}{4})\p{M}+/gu, "$1");
  return [...spaced(based)].slice(0, longest).join("").trim();
}

// What looks like another's name as it is shown.
const MISLEADING = /^you$|^guest \p{Nd}+$|\((you|\p{Nd}+)\)$/u;

// The names that are shown, by id, of `[id, name]`: guests have none. People of one name are told apart by their ids.
export function tellApart(users) {
  const plain = name => name.normalize("NFKC").toLowerCase();
  const counts = new Map(), named = users.map(([id, name]) => ({ id, shown: name ?? `Guest ${id}`, isGuest: name === undefined }));
  for (const { shown } of named) counts.set(plain(shown), (counts.get(plain(shown)) ?? 0) + 1);
  const isClear = ({ shown, isGuest }) => counts.get(plain(shown)) === 1 && (isGuest || !MISLEADING.test(plain(shown)));
  return new Map(named.map(user => [user.id, isClear(user) ? user.shown : `${user.shown} (${user.id})`]));
}

// A text with values, as the parts of a notice. Values are names and titles, or lists of further parts.
export const partsOf = (texts, values) => texts.flatMap((text, index) => {
  const value = values[index];
  return index === values.length ? [text] : [text, ...(Array.isArray(value) ? value : [{ name: value }])];
});
