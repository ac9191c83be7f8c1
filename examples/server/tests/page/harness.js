// Pages without a browser: boards of `page/board.js` on connections of the model, under one clock.

export function check(condition, what) {
  if (!condition) throw new Error(what);
}

export function equal(found, wanted, what = "") {
  const [a, b] = [found, wanted].map(value => JSON.stringify(value));
  check(a === b, `${what} is ${a} and should be ${b}`);
}

export class World {
  time = 0;
  now = () => this.time;
  users = [];

  constructor({ Board }, { Model }, options = {}) {
    [this.Board, this.Model, this.options] = [Board, Model, options];
    this.model = new Model({ now: this.now, ...options });
  }

  user(name = "") {
    const user = new User(this, name);
    this.users.push(user);
    return user;
  }

  // Everybody who is connected gets everything, and time passes as it does for pages that are not held up.
  settle(ticks = 3) {
    for (let tick = 0; tick < ticks; tick++) {
      this.model.expire();
      for (const user of this.users) user.settle();
      this.time += 33;
      for (const user of this.users) user.board.tick();
    }
    for (const user of this.users) user.settle();
  }

  // Moves a card as a user whose page is none of the world's.
  moveAs(id, key, value) {
    if (this.model.owner(key)) this.model.release(key, "expired");
    this.model.acquire(id, key);
    this.model.commit({ [key]: value });
  }
}

export class User {
  notices = [];
  link = null;
  after = () => {}; // called after each message
  garble = () => false; // whether a message is not to be readable when it arrives

  constructor(world, name) {
    this.world = world;
    this.io = {
      send: text => this.link.in.push(this.garble() ? text.slice(1) : text),
      reset: () => this.cut(),
      now: world.now,
      say: parts => this.notices.push(parts.map(part => part.name ?? part).join("")),
      show: keys => [...keys],
      shake: () => {},
      changed: () => {},
    };
    this.board = new world.Board(this.io);
    this.board.name = name;
  }

  connect() {
    this.link = this.world.model.connect();
    this.board.opened();
    return this;
  }

  // The connection ends: of what was under way, so many messages arrive.
  cut(arriving = 0) {
    if (!this.link) return;
    const { link } = this;
    for (let count = 0; count < arriving && link.in.length && link.open; count++) link.model.serve(link);
    if (link.open) link.model.lose(link);
    this.link = null;
    this.board.closed(link.code);
  }

  serve() {
    const { link } = this;
    if (link?.open && link.in.length) link.model.serve(link);
  }

  receive() {
    const { link } = this;
    if (link?.out.length) {
      this.board.receive(JSON.parse(link.out.shift()));
      this.after();
    } else if (link && !link.open) this.cut();
  }

  settle() {
    for (let round = 0; round < 200 && this.link; round++) {
      while (this.link?.open && this.link.in.length) this.serve();
      if (this.link?.open) this.link.model.frame(this.link);
      if (this.link?.open) this.link.model.lockFrame(this.link);
      if (this.link && !this.link.out.length && this.link.open && !this.link.in.length) return;
      this.receive();
    }
    check(!this.link, "the connection never comes to rest");
  }

  // Time passes in which each message is under way for so long; `each` is called thirty times a second with what has passed.
  slowly(delay, duration, each = () => {}) {
    const { link, world } = this, up = [], down = [];
    for (let passed = 0; passed < duration && this.link; passed += 33, world.time += 33) {
      each(passed);
      this.board.tick();
      while (link.in.length) up.push([world.time + delay, link.in.shift()]);
      while (up[0]?.[0] <= world.time) {
        link.in.push(up.shift()[1]);
        this.serve();
      }
      world.model.expire();
      world.model.frame(link);
      world.model.lockFrame(link);
      while (link.out.length) down.push([world.time + delay, link.out.shift()]);
      while (down[0]?.[0] <= world.time) this.board.receive(JSON.parse(down.shift()[1]));
    }
  }

  isTold(text, since = 0) {
    return this.notices.slice(since).some(notice => notice.includes(text));
  }
}

export const at = (x, y) => ({ x, y });

// What the tests are written with.
export function steps(page, models) {
  const start = (names = ["Ada", "Bob"], options = {}) => {
    const world = new World(page, models, options);
    const users = names.map(name => world.user(name).connect());
    world.settle();
    return [world, ...users];
  };
  const grab = (world, user, key) => {
    user.board.pick(key);
    world.settle(1);
    equal(user.board.holding, key, "the card that is held");
  };
  const hasMoved = ({ model }, key, value) => equal(model.content.get(key).value, value, key);
  const isFree = ({ model }, key) => equal(model.owner(key), undefined, `the owner of ${key}`);
  return { start, grab, hasMoved, isFree };
}
