// The page's elements and its connection. What there is to show, to send and to say is decided in `board.js`.

import { Board } from "./board.js";
import { LIMITS, clean } from "./text.js";

const STEP = 0.02, NOTICE = 8000, NOTICES = 4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const $ = id => document.getElementById(id);
const shown = new Map(); // key -> its element

const board = new Board({
  send: text => socket?.readyState === WebSocket.OPEN && socket.send(text),
  reset: () => hangUp(0),
  now: () => performance.now(),
  say, show, shake, changed,
});
globalThis.state = board; // for the console, and for tests

// ---- The connection ------------------------------------------------------------------------------------------------------

let socket = null, retry, attempts = 0, liveSince = 0;

function connect() {
  clearTimeout(retry);
  if (socket) return;
  const url = new URL("ws", location.href);
  url.protocol = location.protocol.replace("http", "ws");
  const mine = socket = new WebSocket(url);
  tell("connecting");
  retry = setTimeout(() => mine === socket && mine.readyState === WebSocket.CONNECTING && hangUp(0), 10000);
  mine.onopen = () => mine === socket && board.opened();
  mine.onmessage = event => mine === socket && board.receive(JSON.parse(event.data));
  mine.onclose = event => mine === socket && hangUp(event.code);
}

// The connection is lost, or is given up; a new one is made after a while.
function hangUp(code) {
  const gone = socket;
  socket = null;
  gone?.close();
  if (board.isLive && performance.now() - liveSince > 5000) attempts = 0;
  board.closed(code);
  const wait = Math.min(250 * 2 ** attempts++, 5000) * (0.75 + Math.random() / 2);
  tell(`no connection, trying again in ${(wait / 1000).toFixed(1)} s`);
  clearTimeout(retry);
  retry = setTimeout(connect, wait);
}

function tell(text) {
  $("connection").textContent = text;
  $("connection").dataset.state = board.link;
}

// Storage can be forbidden, and what is in it can be anything.
function load(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

function save(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch { /* then it is forgotten */ }
}

// ---- Showing it ----------------------------------------------------------------------------------------------------------

function make(name, className = "", ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

// Names and titles are isolated, so that their direction of writing cannot turn the text around them.
function isolated(text) {
  const made = make("bdi");
  made.textContent = text;
  return made;
}

// News are pushed out by what comes later. The rest stays until it can have been read.
function say(parts, isNews = false) {
  const notice = make("p", isNews ? "news" : "", ...parts.map(part => typeof part === "string" ? part : isolated(part.name)));
  const last = $("notices").lastChild;
  if (last?.textContent === notice.textContent) last.remove();
  $("notices").append(notice);
  const news = $("notices").getElementsByClassName("news");
  while ($("notices").children.length > NOTICES && news.length) news[0].remove();
  $("notices").scrollTop = $("notices").scrollHeight;
  const fade = () => document.hidden ? setTimeout(fade, NOTICE) : notice.remove();
  setTimeout(fade, NOTICE * Math.max(1, $("notices").children.length / NOTICES));
}

function changed() {
  const { holding, link } = board;
  if (link !== "down" && $("connection").dataset.state !== link) tell(link === "live" ? "live" : "connecting");
  if (link === "live" && !liveSince) liveSince = performance.now();
  if (link !== "live") liveSince = 0;
  if (document.activeElement !== $("name")) $("name").value = board.name;
  save("session", board.session);
  save("name", board.name);
  const waiting = [...board.moves.keys()].find(key => !board.isLive && board.content.has(key));
  const text = holding ? ["You hold “", isolated(board.titleOf(holding)), "”."]
    : waiting ? ["“", isolated(board.titleOf(waiting)), "” is moved when the connection is back."] : [];
  $("holding").replaceChildren(...text);
  for (const key of shown.keys()) if (key.startsWith("card.")) show([key]);
}

function show(keys) {
  for (const key of keys) {
    const [kind, id] = key.split(".");
    const card = `card.${id}`;
    if (kind === "title" && board.content.has(card)) showCard(card);
    else if (!board.content.has(key) || (kind === "cursor" && board.isMe(id))) hide(key);
    else if (kind === "card") showCard(key);
    else if (kind === "user") showUser(key, id);
    else if (kind === "cursor") showCursor(key, id);
  }
  const holding = new Set([...board.owners.values()].map(owner => owner.id));
  for (const [key, cursor] of shown) {
    if (key.startsWith("cursor.")) cursor.toggleAttribute("data-holding", holding.has(key.split(".")[1]));
  }
}

function hide(key) {
  shown.get(key)?.remove();
  shown.delete(key);
}

function element(key, parent, made) {
  if (!shown.has(key)) shown.set(key, parent.appendChild(made()));
  return shown.get(key);
}

// Each id has a colour of its own, as far as possible from those of its neighbours.
function paint(shape, id) {
  shape.style.setProperty("--colour", id ? `oklch(45% .14 ${(Number(id) || 0) * 137.508 % 360})` : "");
}

function put(shape, { x, y }) {
  shape.style.setProperty("--x", x);
  shape.style.setProperty("--y", y);
}

function showCard(key) {
  const card = element(key, $("board"), () => newCard(key)), title = board.titleOf(key);
  const isMine = board.holding === key, owner = board.owners.get(key)?.id;
  const isTheirs = !isMine && owner !== undefined && !board.isMe(owner);
  const name = isMine ? "you" : isTheirs ? board.nameOf(owner) : "";
  put(card, board.place(key));
  paint(card, isMine ? board.session.id : isTheirs ? owner : null);
  if (name) card.dataset.held = isMine ? "mine" : "theirs";
  else delete card.dataset.held;
  card.toggleAttribute("data-waiting", !board.isLive && board.moves.has(key));
  const [grip, tools] = card.children;
  grip.firstChild.textContent = title;
  grip.lastChild.textContent = name;
  grip.setAttribute("aria-label", title + (name ? `, held by ${name}` : ""));
  for (const tool of tools.children) tool.setAttribute("aria-label", `${tool.title} ${title}`);
}

function showUser(key, id) {
  const item = element(key, $("people"), () => make("li", "", isolated("")));
  paint(item, id);
  item.firstChild.textContent = board.nameOf(id);
  item.toggleAttribute("data-me", board.isMe(id));
  if (board.content.has(`cursor.${id}`)) show([`cursor.${id}`]);
  for (const [card, owner] of board.owners) if (owner.id === id && board.content.has(card)) showCard(card);
}

function showCursor(key, id) {
  const cursor = element(key, $("board"), () => {
    const arrow = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    arrow.setAttribute("viewBox", "0 0 16 20");
    const outline = document.createElementNS(arrow.namespaceURI, "path");
    outline.setAttribute("d", "M1 1v15l4-4 3 7 3-1-3-7h6z");
    arrow.append(outline);
    const cursor = make("div", "cursor", arrow, isolated(""));
    cursor.setAttribute("aria-hidden", "true");
    return cursor;
  });
  paint(cursor, id);
  cursor.lastChild.textContent = board.nameOf(id);
  put(cursor, board.content.get(key).value);
}

function shake(key) {
  const card = shown.get(key);
  card?.classList.remove("shake");
  void card?.offsetWidth; // so that the animation begins anew
  card?.classList.add("shake");
}

// ---- Cards ---------------------------------------------------------------------------------------------------------------

let grip = null; // the pointer that has the card, and where: { id, x, y }, in pixels

// A place on the board, as fractions of what a thing of this size can move.
function within(x, y, { width, height }) {
  const box = $("board").getBoundingClientRect();
  return { x: (x - box.x) / (box.width - width), y: (y - box.y) / (box.height - height) };
}

function newCard(key) {
  const handle = make("button", "grip", make("bdi", "title"), make("bdi", "owner"));
  const tools = [["✎", "Rename", askTitle], ["✕", "Remove", askRemoval]].map(([icon, title, act]) => {
    const button = Object.assign(make("button", title.toLowerCase(), icon), { type: "button", title });
    button.onclick = () => act(key);
    return button;
  });
  const card = make("div", "card", handle, make("div", "tools", ...tools));
  card.dataset.key = key;
  handle.type = "button";
  handle.setAttribute("aria-describedby", "hint");
  handle.onpointerdown = event => {
    if (event.button !== 0 || !event.isPrimary) return;
    const box = card.getBoundingClientRect();
    grip = { id: event.pointerId, x: event.clientX - box.x, y: event.clientY - box.y };
    try {
      handle.setPointerCapture(event.pointerId);
    } catch { /* the pointer is up already */ }
    board.pick(key);
  };
  handle.onkeydown = event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const [dx, dy] = ARROWS[event.key] ?? [0, 0], step = event.shiftKey ? 5 * STEP : STEP;
    if (dx || dy) board.nudge(key, dx * step, dy * step);
    else if (event.key === "Enter" || event.key === "F2") askTitle(key);
    else if (event.key === "Delete" || event.key === "Backspace") askRemoval(key);
    else return;
    event.preventDefault();
  };
  handle.onblur = () => board.drag?.key === key && board.drag.byKeys && board.drop();
  card.onanimationend = () => card.classList.remove("shake");
  return card;
}

// The whole page is listened to, for a capture can be refused. The end of a drag is not always told by a pointer.
function dragged(event) {
  if (!board.drag || board.drag.byKeys || event.pointerId !== grip.id) return;
  const box = shown.get(board.drag.key)?.getBoundingClientRect();
  if (event.type !== "pointermove" || !(event.buttons & 1) || !box) board.drop();
  else board.move(within(event.clientX - grip.x, event.clientY - grip.y, box));
}
for (const type of ["pointermove", "pointerup", "pointercancel", "lostpointercapture"]) document.addEventListener(type, dragged);
addEventListener("blur", () => board.drop());
document.addEventListener("visibilitychange", () => document.hidden && board.drop());

// Asks, and acts if the answer is yes. What is changed is the card that the user saw when it was asked.
function ask(question, title, answer, act) {
  const dialog = $("ask"), input = $("title");
  if (dialog.open) return;
  $("question").replaceChildren(...question);
  $("yes").textContent = answer;
  input.hidden = title === null;
  input.value = title ?? "";
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue === "yes" && act(input.value);
  dialog.showModal();
  if (title !== null) input.select();
}

function askTitle(key) {
  if (!board.content.has(key)) return;
  const look = board.look(key);
  ask(["Rename “", isolated(look.title), "”"], look.title, "Rename", text => {
    const title = readable(text, LIMITS.title);
    if (title) board.rename(look, title);
  });
}

function askRemoval(key) {
  if (!board.content.has(key)) return;
  board.drop();
  const look = board.look(key);
  ask(["Remove “", isolated(look.title), "” for everybody?"], null, "Remove", () => board.remove(look));
}

// What can be shown of a text that was typed, and a word if that is not all of it.
function readable(text, longest) {
  const cleaned = clean(text, longest);
  if (!cleaned) say(["There is nothing to be seen in that text, so it is not used."]);
  else if (cleaned !== text.trim()) say(["The text is used as “", { name: cleaned }, "”: the rest cannot be shown."]);
  return cleaned;
}

$("no").onclick = () => $("ask").close();
$("add").onsubmit = event => {
  event.preventDefault();
  const title = readable($("new").value, LIMITS.title);
  if (title && board.add(title)) $("new").value = "";
};

$("board").addEventListener("pointermove", event => board.point(within(event.clientX, event.clientY, { width: 0, height: 0 })));
for (const gone of ["pointerleave", "pointercancel"]) $("board").addEventListener(gone, () => board.point(null));

// ---- Coming and going ----------------------------------------------------------------------------------------------------

$("name").onchange = () => {
  const text = $("name").value.trim();
  const name = text && readable(text, LIMITS.name);
  if (name || !text) board.introduce(name);
  $("name").value = board.name;
  save("name", board.name);
};

addEventListener("beforeunload", event => board.isUnsaved && event.preventDefault());
addEventListener("pagehide", () => {
  board.leave();
  const gone = socket;
  socket = null;
  clearTimeout(retry);
  gone?.close();
  board.closed(0);
});
addEventListener("pageshow", event => event.persisted && connect());
addEventListener("online", () => !socket && connect());

const name = new URLSearchParams(location.search).get("name") ?? load("name") ?? "";
board.session = load("session");
board.name = String(name).trim() && readable(String(name), LIMITS.name);
$("name").value = board.name;
setInterval(() => board.tick(), 1000 / 30);
connect();
