// A random history: what three users do, and what the network, the clock and the server do to them, in any order.

import { World, check, equal } from "./harness.js";

// Numbers from 0 below 1, the same for the same seed.
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function storm(page, Model, seed) {
  const next = random(seed), below = number => Math.floor(next() * number), chance = part => next() < part;
  const world = new World(page, { Model }, { lease: 300 + below(1000), grace: below(2000), cards: 2 + below(3) });
  const users = ["Ada", "Bob", ""].map(name => world.user(name).connect());
  const quiet = chance(0.2); // no connection is lost
  const intents = []; // what users have done: { user, since, key, what, isDone }
  const fresh = () => ({ x: next(), y: next() }); // no two are the same
  let names = 0;

  const intend = (user, key, title, isDone) => intents.push({ user, since: user.notices.length, key, title, isDone });
  const was = value => () => world.model.written.includes(JSON.stringify(value));
  const restart = step => {
    const { written } = world.model;
    world.model = new Model({ now: world.now, store: `restart ${step}`, lease: 500, grace: 500 });
    world.model.written = written; // as of the server before, on which messages may still arrive
  };
  const drags = new Map(); // user -> the last place that it has given the card it drags: { key, value, since }

  // The place where a drag has left the card is to be kept, or its loss to be reported.
  const note = user => {
    const { board } = user, dragged = drags.get(user);
    if (dragged && board.drag !== dragged.drag) {
      drags.delete(user);
      if (dragged.value) intents.push({ user, ...dragged, isDone: was(dragged.value) });
    }
    if (board.drag && !drags.has(user)) {
      drags.set(user, { drag: board.drag, key: board.drag.key, since: user.notices.length });
    }
    const current = drags.get(user), move = board.drag && board.moves.get(board.drag.key);
    if (current && board.drag.wanted) current.value = board.drag.wanted;
    else if (current && move && board.held.has(current.key)) current.value = move.value;
  };

  for (const user of users) user.after = () => note(user);

  const act = user => {
    const { board } = user, cards = [...board.content.keys()].filter(key => key.startsWith("card."));
    const key = cards[below(cards.length)] ?? "card.1";
    switch (below(14)) {
      case 0: case 1: return board.pick(key, chance(0.3));
      case 2: case 3: case 4: return board.move(fresh());
      case 5: return board.drop();
      case 6: return board.nudge(key, next() / 10, next() / 10);
      case 7: return board.point(chance(0.7) ? fresh() : null);
      case 8: return board.introduce(chance(0.2) ? "refused" : ["", "Ada", "Eve"][below(3)]);
      case 9: {
        const title = chance(0.1) ? "refused" : `new ${++names}`;
        intend(user, title, title, was(title));
        return board.add(title);
      }
      case 10: {
        const title = `renamed ${++names}`, look = board.look(key);
        if (!cards.length) return;
        intend(user, `title of ${key}`, look.title, was(title));
        return board.rename(look, title);
      }
      case 11: {
        const look = board.look(key);
        const isGoing = [...board.edits].some(edit => edit.kind === "removed" && edit.key === key);
        if (!cards.length || chance(0.5) || isGoing) return;
        intend(user, `rest of ${key}`, look.title, () => world.model.content.get(key)?.revision !== look.card || user.isTold(`“${look.title}” was removed`));
        return board.remove(look);
      }
      default: return board.tick();
    }
  };

  const network = user => {
    if (!user.link) return chance(0.3) && user.connect();
    switch (below(quiet ? 10 : 12)) {
      case 0: case 1: case 2: return user.serve();
      case 3: case 4: case 5: return user.receive();
      case 6: return user.link.open && world.model.frame(user.link);
      case 7: return user.link.open && world.model.lockFrame(user.link);
      case 8: return user.settle();
      case 9: return user.garble = chance(0.1) ? () => chance(0.2) : () => false;
      case 10: return chance(0.5) && user.cut(below(4));
      default: return chance(0.1) && user.link.open && world.model.lose(user.link, chance(0.5) ? 4001 : 0);
    }
  };

  // Who holds a card by the page, and not by the server, has yet to be told so.
  const holdsRightly = ({ board, link }) => {
    const key = board.holding;
    if (!key || link.model.owner(key) === link.id) return;
    check(link.out.length || link.version < link.model.version || !link.open, `${key} is not held, and nothing will say so`);
  };

  for (let step = 0; step < 250; step++) {
    const user = users[below(users.length)], dice = below(20);
    if (dice < 9) act(user);
    else if (dice < 16) network(user);
    else if (dice < 18) world.time += below(60);
    else if (dice < 19) chance(0.2) && (world.time += below(4000)); // all stand still
    else if (chance(0.5)) world.model.expire();
    else if (chance(0.3)) world.moveAs("other", `card.${1 + below(3)}`, fresh());
    else if (chance(0.1)) restart(step);
    if (user.link && user.link.model !== world.model) user.cut();
    users.forEach(note);
    users.filter(user => user.link).forEach(holdsRightly);
  }

  // All comes to rest.
  for (const user of users) user.garble = () => false;
  for (let round = 0; round < 100; round++) {
    for (const user of users) {
      if (user.link && user.link.model !== world.model) user.cut();
      user.board.drop();
      if (!user.link) user.connect();
    }
    world.settle(1);
    users.forEach(note);
  }
  const plain = content => [...content].map(([key, { value }]) => [key, value]).sort(([a], [b]) => a < b ? -1 : 1);
  for (const { board } of users) {
    equal(board.link, "live", "the link");
    equal(plain(board.content), plain(world.model.content), "the content");
    equal([board.moves.size, board.edits.size, board.held.size, board.holding], [0, 0, 0, null], "what is left over");
    for (const key of board.content.keys()) if (key.startsWith("card.")) equal(board.place(key), world.model.content.get(key).value, key);
    equal([...board.owners.keys()], [...world.model.locks.keys()], "the locks");
  }
  // A card that is dragged may be renamed meanwhile, so its title is not looked for.
  const isLoss = title => notice => /no connection|begun anew/.test(notice)
    || (title ? notice.includes(`“${title}”`) && !/was (added|renamed|removed)\.$/.test(notice) : /not moved|cannot move|your move with it/.test(notice));
  intents.forEach(({ user, since, key, title, isDone }, index) => {
    const isReplaced = intents.slice(index + 1).some(later => later.user === user && later.key === key);
    const isTold = user.notices.slice(since).some(isLoss(title));
    check(isReplaced || isDone() || isTold, `the user was not told of ${key} “${title}”: ${user.notices.slice(since)}`);
  });
}
