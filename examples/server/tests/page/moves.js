// What the page's state machine promises of cards that are moved, by name.

import { at, check, equal, steps } from "./harness.js";

const HOUR = 3600000;

export function moves(page, models) {
  const { start, grab, hasMoved, isFree } = steps(page, models);
  return {
    "a move that ends without a connection is sent when the session is resumed"() {
      const [world, ada] = start();
      grab(world, ada, "card.1");
      ada.cut();
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      equal(ada.board.holding, null, "what is held");
      ada.connect();
      world.settle();
      hasMoved(world, "card.1", at(0.5, 0.5));
      isFree(world, "card.1");
    },

    "a move that ends without a connection is kept after the session's end if nobody has moved the card"() {
      const [world, ada, bob] = start();
      grab(world, ada, "card.1");
      ada.cut();
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      world.time += HOUR;
      world.settle();
      isFree(world, "card.1");
      ada.connect();
      world.settle();
      hasMoved(world, "card.1", at(0.5, 0.5));
      equal(bob.board.place("card.1"), at(0.5, 0.5), "what Bob sees");
    },

    "a move that ends without a connection is reported as lost if another has moved the card"() {
      const [world, ada] = start();
      grab(world, ada, "card.1");
      ada.cut();
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      world.time += HOUR;
      world.model.expire();
      world.moveAs("other", "card.1", at(0.9, 0.9));
      ada.connect();
      world.settle();
      hasMoved(world, "card.1", at(0.9, 0.9));
      equal(ada.board.place("card.1"), at(0.9, 0.9), "what Ada sees");
      check(ada.isTold("“card 1” was not moved"), ada.notices);
    },

    "a move whose answer was lost with the connection is not made twice"() {
      const [world, ada] = start();
      grab(world, ada, "card.1");
      ada.board.move(at(0.5, 0.5));
      ada.board.drop();
      const before = world.model.revision;
      ada.cut(9);
      equal(world.model.revision, before + 1, "the revision");
      world.time += HOUR;
      world.settle();
      ada.connect();
      world.settle();
      equal(world.model.content.get("card.1"), { value: at(0.5, 0.5), revision: before + 1 }, "the card");
      check(!ada.isTold("not moved"), ada.notices);
    },

    "a move after one that was confirmed is kept like it"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      ada.board.move(at(0.5, 0.5));
      ada.board.tick();
      ada.serve();
      ada.receive(); // the answer, and not yet the change
      ada.board.move(at(0.6, 0.6));
      ada.cut();
      ada.board.drop();
      world.time += HOUR;
      world.settle();
      ada.connect();
      world.settle();
      hasMoved(world, "card.1", at(0.6, 0.6));
    },

    "a later move is not forgotten when an earlier one is confirmed"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      for (const x of [0.5, 0.6]) {
        ada.board.move(at(x, x));
        ada.board.tick();
      }
      ada.serve();
      world.model.frame(ada.link);
      while (ada.link.out.length) ada.receive();
      equal(ada.board.place("card.1"), at(0.6, 0.6), "what is shown");
      ada.board.drop();
      ada.cut();
      ada.connect();
      world.settle();
      hasMoved(world, "card.1", at(0.6, 0.6));
    },

    "moves that come after the end of the lease are kept if nobody has moved the card"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      for (const x of [0.5, 0.6]) {
        ada.board.move(at(x, x));
        ada.board.tick(); // and then it is under way for long
      }
      world.model.release("card.1", "expired");
      world.settle();
      hasMoved(world, "card.1", at(0.6, 0.6));
      check(ada.isTold("You no longer hold “card 1”") && !ada.isTold("was not moved"), ada.notices);
    },

    "a page that stood still for longer than the lease does not overwrite what another has done"() {
      const [world, ada] = start();
      grab(world, ada, "card.1");
      ada.board.move(at(0.2, 0.2));
      world.settle(1);
      world.time += 2000; // no tick
      world.model.expire();
      world.moveAs("other", "card.1", at(0.9, 0.9));
      ada.board.move(at(0.3, 0.3)); // the pointer has moved on
      equal(ada.board.holding, null, "what is held");
      world.settle();
      hasMoved(world, "card.1", at(0.9, 0.9));
      equal(ada.board.place("card.1"), at(0.9, 0.9), "what Ada sees");
      check(ada.isTold("You no longer hold “card 1”"), ada.notices);
    },

    "a drag ends when lock events say that the lock is lost"() {
      const [world, ada] = start();
      grab(world, ada, "card.1");
      world.moveAs("other", "card.1", at(0.9, 0.9));
      ada.settle();
      equal(ada.board.holding, null, "what is held");
      check(ada.isTold("You no longer hold “card 1”"), ada.notices);
    },

    "a drag ends when a new lease comes too late"() {
      const [world, ada] = start();
      grab(world, ada, "card.1");
      world.time += 500;
      ada.board.tick(); // asks for a new lease, which is under way for long
      world.time += 600;
      world.moveAs("other", "card.1", at(0.9, 0.9));
      world.model.release("card.1");
      ada.board.move(at(0.4, 0.4));
      world.settle();
      equal(ada.board.holding, null, "what is held");
      hasMoved(world, "card.1", at(0.9, 0.9));
    },

    "a drag ends when the lock is gone after a resume"() {
      const [world, ada] = start(["Ada"], { grace: HOUR });
      grab(world, ada, "card.1");
      ada.cut();
      world.model.release("card.1", "expired");
      ada.connect();
      world.settle();
      equal(ada.board.drag, null, "the drag");
      check(ada.isTold("You no longer hold “card 1”"), ada.notices);
    },

    "a drag goes on after a resume if the lock is still there"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      ada.cut();
      ada.board.move(at(0.3, 0.3));
      ada.connect();
      world.settle();
      equal(ada.board.holding, "card.1", "what is held");
      hasMoved(world, "card.1", at(0.3, 0.3));
    },

    "events of an earlier lock of the same card do not end a drag"() {
      const [world, ada] = start(["Ada"]);
      grab(world, ada, "card.1");
      ada.board.drop();
      ada.serve(); // the unlock, of which the event is sent before the next lock is granted
      world.model.lockFrame(ada.link);
      ada.board.pick("card.1");
      ada.serve();
      const [granted] = ada.link.out.splice(-1);
      ada.link.out.unshift(granted);
      while (ada.link.out.length) ada.receive();
      equal(ada.board.holding, "card.1", "what is held");
    },

    "a card that is let go of before it is granted is moved, and released"() {
      const [world, ada] = start(["Ada"]);
      ada.board.pick("card.1");
      ada.board.move(at(0.3, 0.3));
      ada.board.drop();
      world.settle();
      isFree(world, "card.1");
      hasMoved(world, "card.1", at(0.3, 0.3));
    },

    "an answer to an earlier request for a card does not grant a later one"() {
      const [world, ada] = start(["Ada"]);
      ada.board.pick("card.1");
      ada.board.drop();
      ada.board.pick("card.1");
      ada.serve();
      ada.receive();
      equal(ada.board.holding, null, "what is held after the first answer");
      world.settle();
      equal(ada.board.holding, "card.1", "what is held after the second");
      ada.board.drop();
      world.settle();
      isFree(world, "card.1");
    },

    "a lock that another owns is refused with the owner's name"() {
      const [world, ada, bob] = start();
      grab(world, ada, "card.1");
      bob.board.pick("card.1");
      world.settle();
      equal(bob.board.drag, null, "Bob's drag");
      check(bob.isTold("You cannot move “card 1”: Ada holds it"), bob.notices);
    },
  };
}
