// What the page's state machine promises, by name. Run by `node --test` and, in a browser, by `tests/browser`.

import { World, at, check, equal, steps } from "./harness.js";
import { Model } from "./model.js";
import { losses } from "./losses.js";
import { moves } from "./moves.js";
import { storm } from "./storm.js";

const HOUR = 3600000;

// `page` is the modules of the page, `texts` the examples of `tests/texts.json`.
export function tests(page, texts) {
  const { start, grab, hasMoved } = steps(page, { Model });
  return {
    ...moves(page, { Model }),
    ...losses(page, { Model }),

    "after a message that does not count, all go on with the expected numbers"() {
      for (const spoilt of [1, 2, 3]) {
        const [world, ada] = start(["Ada"]);
        grab(world, ada, "card.1");
        let sent = 0;
        ada.garble = () => ++sent === spoilt;
        for (const step of [1, 2, 3, 4]) {
          ada.board.move(at(step / 10, 0.5));
          ada.board.tick(); // four messages are under way
        }
        world.settle();
        ada.board.move(at(0.7, 0.7));
        world.settle();
        equal(ada.board.link, "live", "the link");
        equal(ada.board.holding, "card.1", "what is held");
        hasMoved(world, "card.1", at(0.7, 0.7));
        check(!ada.notices.length, ada.notices);
      }
    },

    "a message that is never readable is given up, with a word"() {
      const [world, ada] = start(["Ada"]);
      ada.garble = () => true;
      ada.board.add("spoilt");
      world.settle();
      ada.garble = () => false;
      check(ada.isTold("“spoilt” was not added"), ada.notices);
      ada.board.add("good");
      world.settle();
      check([...ada.board.content.values()].some(({ value }) => value === "good"), "the card is there");
    },

    "numbers that cannot be explained lead to a new connection"() {
      const [world, ada] = start(["Ada"]);
      ada.link.expected += 7;
      ada.board.add("title");
      world.settle();
      equal(ada.link, null, "the connection");
      ada.connect();
      world.settle();
      check([...ada.board.content.values()].some(({ value }) => value === "title"), "the card is there");
    },

    "a server that accepts no hello is not asked for ever"() {
      const world = new World(page, { Model });
      const ada = world.user("Ada");
      ada.garble = () => true;
      ada.connect();
      world.settle();
      equal(ada.link, null, "the connection");
    },

    "a name that the server does not accept is reported, and the user joins as a guest"() {
      const [, ada] = start(["refused"]);
      equal([ada.board.link, ada.board.name, ada.board.nameOf("1")], ["live", "", "Guest 1"], "the board");
      check(ada.isTold("The server does not accept “refused”"), ada.notices);
    },

    "a new name that the server does not accept is reported, and the old one stays"() {
      const [world, ada] = start(["Ada"]);
      ada.board.introduce("refused");
      world.settle();
      equal(ada.board.name, "Ada", "the name");
      check(ada.isTold("Your name was not changed"), ada.notices);
    },

    "whatever a stored session is, the page connects"() {
      for (const session of [5, "1", [], {}, { id: 7 }, { id: "1", secret: "wrong" }, null]) {
        const world = new World(page, { Model });
        const user = world.user("Ada");
        user.board.session = session;
        user.connect();
        world.settle();
        equal(user.board.link, "live", JSON.stringify(session));
      }
    },

    "the cursor is sent again after an absence, and taken away if it has left the board"() {
      const [world, ada, bob] = start();
      const seen = () => bob.board.content.get("cursor.1")?.value;
      ada.board.point(at(0.5, 0.5));
      world.settle();
      equal(seen(), at(0.5, 0.5), "the cursor");
      ada.cut();
      world.time += HOUR;
      world.settle();
      equal(seen(), undefined, "the cursor of who is gone");
      ada.connect();
      world.settle();
      equal(bob.board.content.get(`cursor.${ada.board.session.id}`)?.value, at(0.5, 0.5), "the cursor of who is back");
      ada.cut();
      ada.board.point(null);
      ada.connect();
      world.settle();
      equal(bob.board.content.has(`cursor.${ada.board.session.id}`), false, "the cursor that has left");
    },

    "nothing throws in any state"() {
      const [world, ada, bob] = start();
      const everything = board => {
        board.point(at(0.5, 0.5));
        for (const key of ["card.1", "card.99"]) {
          board.pick(key);
          board.move(at(NaN, Infinity));
          board.nudge(key, 0.1, 0);
          board.drop();
          board.nudge(key, 0.1, 0);
          board.rename(board.look(key), "x");
          board.remove(board.look(key));
        }
        board.add("y");
        board.introduce("Eve");
        board.tick();
        board.point(null);
        board.tick();
        for (const message of [null, 1, [], {}, { type: "constructor" }, { type: "unknown" }]) board.receive(message);
      };
      everything(world.user().board);
      const other = world.user();
      ada.cut();
      everything(ada.board);
      for (const user of [ada, other]) {
        user.connect();
        everything(user.board);
        while (user.board.link !== "live") {
          user.serve();
          user.receive();
          everything(user.board);
        }
      }
      bob.link.model.lose(bob.link, 4001);
      bob.cut();
      equal(bob.board.session, null, "the session that another page has");
      everything(bob.board);
      bob.connect();
      everything(bob.board);
      world.settle(40);
      equal(bob.board.link, "live", "the link");
    },

    "people of one name, and guests, are told apart"() {
      const [world, ...users] = start(["", "", "", "Ada", "ADA", "Guest 1"]);
      world.settle();
      const names = users.map(user => users[0].board.nameOf(user.board.session.id));
      equal(names, ["Guest 1 (1)", "Guest 2", "Guest 3", "Ada (4)", "ADA (5)", "Guest 1 (6)"], "the names");
    },

    "cards are added, renamed and removed"() {
      const [world, ada, bob] = start();
      ada.board.add("new");
      world.settle();
      equal([bob.board.titleOf("card.5"), typeof bob.board.place("card.5").x], ["new", "number"], "the card");
      bob.board.rename(bob.board.look("card.5"), "newer");
      world.settle();
      equal(ada.board.titleOf("card.5"), "newer", "the title");
      ada.board.remove(ada.board.look("card.5"));
      world.settle();
      equal(bob.board.content.has("card.5") || bob.board.content.has("title.5"), false, "the card");
      check(bob.isTold("“newer” was removed"), bob.notices);
      check(ada.board.edits.size === 0 && bob.board.edits.size === 0, "nothing is left over");
    },

    "a card that was moved or renamed can be changed again before the change has come back"() {
      const [world, ada] = start(["Ada"]);
      const answer = () => {
        ada.serve();
        ada.receive();
      };
      ada.board.rename(ada.board.look("card.1"), "first");
      answer();
      ada.board.rename(ada.board.look("card.1"), "second");
      answer();
      grab(world, ada, "card.2");
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      answer();
      ada.board.remove(ada.board.look("card.2"));
      world.settle();
      equal([ada.board.titleOf("card.1"), ada.board.content.has("card.2")], ["second", false], "the cards");
      check(!ada.isTold("not"), ada.notices);
    },

    "what was changed after the user looked is not overwritten"() {
      const [world, ada, bob] = start();
      const look = ada.board.look("card.1");
      bob.board.rename(bob.board.look("card.1"), "Bob's");
      world.settle();
      ada.board.rename(look, "Ada's");
      ada.board.remove(look);
      world.settle();
      equal(bob.board.titleOf("card.1"), "Bob's", "the title");
      check(ada.isTold("“card 1” was not renamed") && ada.isTold("“card 1” was not removed"), ada.notices);
    },

    "two users who add a card at once get two"() {
      const [world, ada, bob] = start();
      ada.board.add("Ada's");
      bob.board.add("Bob's");
      world.settle();
      equal([ada.board.titleOf("card.5"), ada.board.titleOf("card.6")], ["Ada's", "Bob's"], "the titles");
    },

    "a full board is reported"() {
      const [world, ada] = start(["Ada"], { cards: 100 });
      ada.board.add("one more");
      world.settle();
      check(ada.isTold("“one more” was not added: there are 100 cards already"), ada.notices);
    },

    "a change of a card that was under way when the connection was lost is made once"() {
      for (const arriving of [0, 1]) {
        const [world, ada] = start(["Ada"]);
        ada.board.add("new");
        ada.cut(arriving);
        ada.connect();
        world.settle();
        const titles = [...world.model.content.values()].filter(({ value }) => value === "new");
        equal(titles.length, 1, "the number of new cards");
        equal(world.model.content.get("title.5").value, "new", "the card");
        check(ada.board.edits.size === 0, "nothing is left over");
      }
    },

    "what was done on a server that has begun anew is reported as lost"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      ada.cut();
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      world.model = new Model({ now: world.now, store: "b" });
      ada.connect();
      world.settle();
      hasMoved(world, "card.1", at(0.1, 0));
      check(ada.isTold("“card 1” was not moved: the server has begun anew"), ada.notices);
    },

    "a connection on which no answer comes is given up"() {
      const [world, ada] = start(["Ada"]);
      ada.board.pick("card.1");
      for (let second = 0; second < 9; second++) {
        world.time += 1000;
        for (let tick = 0; tick < 30; tick++) ada.board.tick();
      }
      check(ada.link, "it is not given up too early");
      world.time += 2000;
      for (let tick = 0; tick < 30; tick++) ada.board.tick();
      equal(ada.link, null, "the connection");
    },

    "texts are cleaned by the rule, so that the server accepts them"() {
      for (const { text, longest, cleaned } of texts) equal(page.clean(text, longest), cleaned, JSON.stringify(text));
    },

    "whatever happens, what is shown becomes what the server has, or the user is told": (rounds = 300) => {
      for (let seed = 1; seed <= rounds; seed++) storm(page, Model, seed);
    },
  };
}
