// `node --test examples/server/tests/page/node.js`; STORMS is the number of random histories.

import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Board } from "../../page/board.js";
import { LIMITS, clean } from "../../page/text.js";
import { tests } from "./tests.js";

const texts = JSON.parse(readFileSync(new URL("../texts.json", import.meta.url)));
for (const [name, run] of Object.entries(tests({ Board, LIMITS, clean }, texts))) {
  test(name, () => run(process.env.STORMS));
}
