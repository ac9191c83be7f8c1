// What the page's state machine promises on slow and dead connections, and of changes that follow each other, by name.

import { World, at, check, equal, steps } from "./harness.js";

export function losses(page, models) {
  const { start, grab, hasMoved, isFree } = steps(page, models);
  const titles = world => [...world.model.content].filter(([key]) => key.startsWith("title.")).map(([, { value }]) => value);
  // Ticks of a dead connection, until the page gives it up.
  const isGivenUp = (world, user, each = () => {}) => {
    for (let tick = 0; tick < 30 * 30 && user.link; tick++) {
      world.time += 33;
      each(tick);
      user.board.tick();
    }
    return !user.link;
  };
  return {
    "a card that is let go of before a slow server has granted it is moved"() {
      for (const delay of [150, 300, 500]) {
        const [world, ada] = start(["Ada"], { lease: 5000 });
        ada.slowly(delay, 3000, passed => {
          if (passed === 0) ada.board.pick("card.1");
          if (passed === 99) ada.board.move(at(0.5, 0.5));
          if (passed === 165) ada.board.drop();
        });
        hasMoved(world, "card.1", at(0.5, 0.5));
        isFree(world, "card.1");
        check(!ada.notices.length, ada.notices);
      }
    },

    "steps with the arrow keys before a slow server has granted the card are made"() {
      const [world, ada] = start(["Ada"], { lease: 5000 });
      ada.slowly(500, 6000, passed => passed < 99 && ada.board.nudge("card.1", 0.1, 0.1));
      const { x, y } = world.model.content.get("card.1").value;
      equal([x.toFixed(3), y.toFixed(3)], ["0.400", "0.300"], "the card");
      check(!ada.notices.length, ada.notices);
    },

    "a card that is let go of before it is refused is reported as not moved"() {
      const [world, ada, bob] = start(["Ada", "Bob"], { lease: 5000 });
      grab(world, bob, "card.1");
      ada.board.pick("card.1");
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      world.settle();
      hasMoved(world, "card.1", at(0.1, 0));
      equal(ada.board.place("card.1"), at(0.1, 0), "what Ada sees");
      check(ada.isTold("“card 1” was not moved: Bob holds it"), ada.notices);
    },

    "what an unavailable server has not confirmed is made in the end, once, whether it was carried out or not"() {
      for (const away of ["refuses", "silent"]) {
        const [world, ada, bob] = start(["Ada", "Bob"]);
        const { id, secret } = ada.board.session;
        grab(world, ada, "card.1");
        world.model.away = away;
        ada.board.move(at(0.5, 0.5));
        ada.board.drop();
        ada.board.add("late");
        world.settle();
        check(!ada.link, "it goes on as if all were well");
        ada.connect();
        ada.settle();
        check(!ada.link, "it takes no for an answer to its hello");
        equal(ada.board.session, { id, secret }, "the session");
        world.model.away = null;
        ada.connect();
        world.settle(6);
        hasMoved(world, "card.1", at(0.5, 0.5));
        isFree(world, "card.1");
        equal(titles(world).filter(title => title === "late").length, 1, "how many cards are late");
        equal(bob.board.place("card.1"), at(0.5, 0.5), "what Bob sees");
        check(!ada.board.isUnsaved, "something is unsaved");
        check(!ada.isTold("was not"), ada.notices);
      }
    },

    "two short moves within the time of an answer are both made"() {
      const [world, ada] = start(["Ada"], { lease: 5000 });
      ada.slowly(300, 4000, passed => {
        if (passed !== 0 && passed !== 165) return;
        ada.board.pick("card.1");
        ada.board.move(at(0.5 + passed / 1000, 0.5));
        ada.board.drop();
      });
      hasMoved(world, "card.1", at(0.665, 0.5));
      check(!ada.notices.length, ada.notices);
    },

    "a card that is moved and moved back on a slow connection is where it was"() {
      const [world, ada] = start(["Ada"], { lease: 5000 });
      ada.board.pick("card.1");
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      while (ada.link.in.length) ada.serve();
      ada.board.pick("card.1");
      ada.board.move(at(0.1, 0));
      ada.board.drop();
      while (ada.link.out.length) ada.receive(); // the answers, and not yet the changes
      world.settle();
      hasMoved(world, "card.1", at(0.1, 0));
      equal(ada.board.place("card.1"), at(0.1, 0), "what Ada sees");
    },

    "a dead connection is given up while the pointer moves"() {
      const [world, ada] = start(["Ada"], { lease: 5000 });
      ada.board.pick("card.1");
      check(isGivenUp(world, ada, tick => ada.board.point(at(tick % 100 / 100, 0.5))), "it is live for ever");
    },

    "an answer finds what it is about after hundreds of places of the pointer"() {
      const [world, ada] = start(["Ada"], { lease: 5000 });
      ada.board.add("late");
      for (let step = 0; step < 400; step++) {
        ada.board.point(at(step / 400, 0.5));
        world.time += 20;
        ada.board.tick();
      }
      world.settle();
      equal(ada.board.edits.size, 0, "what is left over");
      check(ada.isTold("“late” was added."), ada.notices);
    },

    "a dead connection is given up between the welcome and the list of locks"() {
      const world = new World(page, models);
      const ada = world.user("Ada").connect();
      ada.serve();
      ada.receive();
      equal(ada.board.link, "resuming", "the link");
      check(isGivenUp(world, ada), "it connects for ever");
    },

    "a dead connection is given up by a page that asks for nothing"() {
      const [world, ada] = start(["Ada"]);
      check(isGivenUp(world, ada), "it is live for ever");
    },

    "a page that asks for nothing keeps a connection that is well"() {
      const [world, ada] = start(["Ada"]);
      const { link } = ada;
      world.settle(2000);
      check(ada.link === link && world.time > 60000, "the connection");
    },

    "a name that is changed while the page connects is the name"() {
      for (const steps of [0, 1, 2]) {
        const world = new World(page, models);
        const ada = world.user("Ada").connect();
        if (steps) ada.serve();
        for (let step = 1; step < steps; step++) ada.receive();
        ada.board.introduce("Eve");
        world.settle();
        equal([ada.board.name, world.model.content.get("user.1").value.name], ["Eve", "Eve"], "the name");
      }
    },

    "of names in a row, the last that the server accepts is the name"() {
      const rows = [
        [["refused", "Eve"], "Eve"], [["Eve", "refused"], "Eve"], [["refused", "refused"], "Ada"],
        [["refused", "Eve", "refused"], "Eve"], [["Eve", ""], ""],
      ];
      for (const [names, last] of rows) {
        const [world, ada] = start(["Ada"]);
        for (const name of names) ada.board.introduce(name);
        world.settle();
        equal([ada.board.name, world.model.content.get("user.1").value.name ?? ""], [last, last], names);
      }
    },

    "names that look like another's, or like the page's own words, have their ids"() {
      const [world, ...users] = start(["Ada", "Ada (1)", "you", "Eve (You)", "Guest 7", "ｙｏｕ", "Eve (x)", ""]);
      world.settle();
      const names = users.map(user => users[0].board.nameOf(user.board.session.id));
      const wanted = ["Ada", "Ada (1) (2)", "you (3)", "Eve (You) (4)", "Guest 7 (5)", "ｙｏｕ (6)", "Eve (x)", "Guest 8"];
      equal(names, wanted, "the names");
    },

    "a card is removed right after it was moved"() {
      for (const isHeld of [true, false]) {
        const [world, ada] = start(["Ada"], { lease: 5000 });
        ada.slowly(200, 3000, passed => {
          if (passed === 0) ada.board.nudge("card.1", 0.1, 0);
          if (passed !== (isHeld ? 660 : 99)) return;
          ada.board.nudge("card.1", 0.1, 0);
          ada.board.remove(ada.board.look("card.1"));
        });
        check(!world.model.content.has("card.1"), "the card is there");
        check(!ada.notices.some(notice => notice.includes("not")), ada.notices);
        equal([ada.board.moves.size, ada.board.edits.size, ada.board.held.size], [0, 0, 0], "what is left over");
      }
    },

    "a card that the user looked at before the own move was confirmed is removed"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      const look = ada.board.look("card.1");
      world.settle();
      ada.board.remove(look);
      world.settle();
      check(!world.model.content.has("card.1"), "the card is there");
    },

    "own changes of a card follow each other, whatever the order"() {
      const [world, ada] = start(["Ada"]);
      const { board } = ada;
      board.rename(board.look("card.1"), "B");
      equal(board.look("card.1").title, "B", "the title that is asked for again");
      board.rename(board.look("card.1"), "C");
      board.rename(board.look("card.2"), "D");
      board.remove(board.look("card.2"));
      board.remove(board.look("card.2"));
      board.pick("card.2");
      world.settle(6);
      equal([board.titleOf("card.1"), board.content.has("card.2")], ["C", false], "the cards");
      check(!ada.isTold("not") && ada.isTold("“card 2” is being removed"), ada.notices);
    },

    "own changes follow each other though an answer is lost with the connection"() {
      const [world, ada] = start(["Ada"], { grace: 0 });
      const { board } = ada;
      board.rename(board.look("card.1"), "B");
      board.remove(board.look("card.1"));
      grab(world, ada, "card.2"); // the rename and the removal are done
      ada.board.rename(board.look("card.3"), "C");
      ada.board.remove(board.look("card.3"));
      board.move(at(0.5, 0.5));
      board.tick();
      ada.cut(9);
      board.move(at(0.6, 0.6));
      board.drop();
      world.time += 5000;
      world.settle();
      ada.connect();
      world.settle(6);
      hasMoved(world, "card.2", at(0.6, 0.6));
      equal([board.content.has("card.1"), board.content.has("card.3")], [false, false], "the cards");
      check(!ada.isTold("not"), ada.notices);
    },

    "what another has changed in between is not overwritten by changes that follow each other"() {
      const [world, ada, bob] = start();
      const { board } = ada;
      bob.board.rename(bob.board.look("card.1"), "Bob's");
      bob.settle();
      board.rename(board.look("card.1"), "B");
      board.rename(board.look("card.1"), "C");
      board.remove(board.look("card.1"));
      world.settle(6);
      equal(board.titleOf("card.1"), "Bob's", "the title");
      for (const what of ["“card 1” was not renamed", "“B” was not renamed", "“C” was not removed"]) {
        check(ada.isTold(what), `${what}: ${ada.notices}`);
      }
    },

    "a title that is typed without a connection is used when it is back"() {
      const [world, ada] = start(["Ada"]);
      const look = ada.board.look("card.1");
      ada.cut();
      ada.board.rename(look, "typed");
      check(ada.board.isUnsaved && ada.isTold("“card 1” is renamed when the connection is back"), ada.notices);
      ada.connect();
      world.settle();
      equal(world.model.content.get("title.1").value, "typed", "the title");
    },

    "what would be lost with the page is known"() {
      const [world, ada] = start(["Ada"]);
      const { board } = ada, settled = what => equal(board.isUnsaved, false, what);
      settled("at first");
      board.pick("card.1");
      settled("a card that is taken");
      board.move(at(0.5, 0.5));
      equal(board.isUnsaved, true, "a move before the lock");
      world.settle();
      settled("a move that is confirmed");
      board.drop();
      board.add("new");
      equal(board.isUnsaved, true, "a card that is being added");
      world.settle();
      settled("a card that was added");
    },

    "a page that is left in the middle of a drag sends the last place"() {
      for (const isGranted of [true, false]) {
        const [world, ada] = start(["Ada"]);
        ada.board.pick("card.1");
        if (isGranted) world.settle(1);
        ada.board.move(at(0.5, 0.5));
        ada.board.leave();
        while (ada.link.open && ada.link.in.length) ada.serve();
        hasMoved(world, "card.1", at(0.5, 0.5));
        isFree(world, "card.1");
      }
    },

    "a lock that has lapsed is not the lock of the next drag"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      world.time += 2000;
      world.model.expire();
      world.model.acquire("other", "card.1");
      ada.board.pick("card.1");
      equal(ada.board.holding, null, "what is held");
    },

    "a new card whose answer was lost is added once, whatever others do with it"() {
      const deeds = {
        "nothing": () => {},
        "renamed": (world, bob) => bob.board.rename(bob.board.look("card.5"), "Bob's"),
        "moved": world => world.moveAs("other", "card.5", at(0.3, 0.3)),
        "both": (world, bob) => {
          bob.board.rename(bob.board.look("card.5"), "Bob's");
          world.moveAs("other", "card.5", at(0.3, 0.3));
        },
      };
      for (const [name, deed] of Object.entries(deeds)) {
        const [world, ada, bob] = start();
        ada.board.add("new");
        ada.cut(1);
        world.settle();
        deed(world, bob);
        world.settle();
        ada.connect();
        world.settle();
        equal(titles(world).length, 5, `the number of cards: ${name}`);
        check(ada.isTold("“new” was added.") || ada.isTold("“new” may not have been added"), `${name}: ${ada.notices}`);
      }
    },

    "a card of another with the same title is not taken for a new card that was lost"() {
      const [world, ada, bob] = start();
      ada.board.add("new");
      ada.cut(0);
      bob.board.add("new");
      world.settle();
      ada.connect();
      world.settle();
      check(!ada.isTold("“new” was added.") && ada.isTold("“new” may not have been added"), ada.notices);
    },

    "what can be missed is told as such, and a loss is not"() {
      const [world, ada, bob] = start();
      const news = [];
      const { io } = ada;
      io.say = (parts, isNews) => news.push([parts.map(part => part.name ?? part).join(""), isNews]);
      bob.board.leave();
      bob.cut(9);
      ada.board.add("new");
      ada.board.rename(ada.board.look("card.1"), "refused");
      world.settle();
      const told = text => news.find(([notice]) => notice.includes(text))?.[1];
      equal([told("Bob left"), told("“new” was added"), told("“card 1” was not renamed")], [true, true, false], "what can be missed");
    },
  };
}
