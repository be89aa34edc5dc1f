// Which tokens are behind the words of an answer, and what else could have stood there (`words` in store.js).

import { $, el, iconButton } from "./dom.js";

const box = $("#words");
const isNarrow = matchMedia("(max-width: 48rem)"); // as in page.css
let opened = null; // {view, index, choose}

/** The index of the word at a point of the screen in what a message shows; -1: none. */
export function wordAt(view, { clientX: x, clientY: y }) {
  const { offsetNode: node, offset } = document.caretPositionFromPoint?.(x, y) ?? {};
  // The caret stands before or behind the character that is meant.
  const i = [offset, offset - 1].find((k) => k >= 0 && k < node?.at?.length && isOver(rangeOf(node, k, k + 1), x, y));
  if (i === undefined) return -1;
  const part = view.parts.reasoning.contains(node) ? "reasoning" : "content";
  return view.message.words.findIndex((w) => w.part === part && w.start <= node.at[i] && node.at[i] < w.end);
}

function rangeOf(node, from, to) {
  const range = document.createRange();
  range.setStart(node, from);
  range.setEnd(node, to);
  return range;
}

const isOver = (range, x, y) =>
  [...range.getClientRects()].some((r) => r.left <= x && x <= r.right && r.top <= y && y <= r.bottom);

/** The ranges that a word has on the screen. */
function rangesOf(view, { part, start, end }) {
  const found = [];
  const walker = document.createTreeWalker(view.parts[part], NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { currentNode: node } = walker;
    if (!node.at?.length || node.at.at(-1) < start || node.at[0] >= end) continue;
    const to = node.at.findIndex((offset) => offset >= end);
    found.push(rangeOf(node, node.at.findIndex((offset) => offset >= start), to < 0 ? node.length : to));
  }
  return found;
}

const highlight = (name, ranges) => CSS.highlights?.set(name, new Highlight(...ranges));

/** Marks the word that a click would open; -1: none. */
export function hover(view, index) {
  highlight("hover", index < 0 ? [] : rangesOf(view, view.message.words[index]));
}

/** Shows the alternatives of a word; `choose` is called with the one that is chosen, as a word. */
export function open(view, index, choose) {
  const word = view.message.words[index];
  const ranges = rangesOf(view, word);
  opened = { view, index, choose };
  shade(view);
  highlight("word", ranges);
  box.replaceChildren(...content(word));
  if (!box.matches(":popover-open")) box.showPopover();
  place(ranges[0] ?? view.element);
  box.querySelector("button:enabled").focus({ preventScroll: true });
}

/** Colours words by how likely they were. */
function shade(view) {
  const levels = { unlikely: [], rare: [] };
  for (const word of view.message.words) {
    const p = Math.exp(Math.min(...word.tokens.map(({ logprob }) => logprob)));
    if (p < 0.5) levels[p < 0.1 ? "rare" : "unlikely"].push(...rangesOf(view, word));
  }
  for (const [name, ranges] of Object.entries(levels)) highlight(name, ranges);
}

/** Puts the box below what it is about, or above; on narrow screens it lies at the bottom, and the rest above it. */
function place(anchor) {
  const top = () => anchor.getBoundingClientRect().top;
  const screen = $("#scroll").getBoundingClientRect();
  if (isNarrow.matches) Object.assign(box.style, { left: "", top: "" });
  const covered = isNarrow.matches ? Math.max(0, screen.bottom - box.getBoundingClientRect().top) : 0;
  const height = screen.height - covered;
  $("#scroll").style.paddingBottom = `${covered}px`;
  const isSeen = top() >= screen.top && top() < screen.top + height - 30;
  if (!isSeen) $("#scroll").scrollBy(0, top() - screen.top - height / 3);
  if (isNarrow.matches) return;
  const { left, bottom } = anchor.getBoundingClientRect();
  const fits = bottom + 8 + box.offsetHeight < innerHeight;
  box.style.left = `${Math.max(8, Math.min(left - 12, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(8, fits ? bottom + 8 : top() - box.offsetHeight - 8)}px`;
}

function content({ part, start, end, tokens }) {
  const { view: { message }, index, choose } = opened;
  const step = (by, icon, label) => iconButton(icon, label, () => walk(by), { disabled: !message.words[index + by] });
  const last = tokens.at(-1);
  const may = choose && part === "content";
  const take = (other) => {
    const from = Math.max(start, end - last.text.length);
    close();
    choose({ part, start: from, end: from + other.text.length, tokens: [{ ...last, ...other }] });
  };
  return [
    el("header", {}, el("strong", { className: "mono" }, visible(message[part].slice(start, end))),
      step(-1, "back", "The word before"), step(1, "next", "The next word"),
      iconButton("close", "Close the alternatives", close)),
    ...tokens.map((token) => el("ol", {}, ...rows(token, may && token === last ? take : null))),
    el("p", { className: "hint" },
      `The model's own, before sampling.${may ? " Choose one, and the answer goes on from there as a branch." : ""}`),
  ];
}

/** The alternatives of a token, as buttons where they may be chosen. */
function rows({ text, logprob, top }, choose) {
  const all = top.some((other) => other.text === text) ? top : [...top, { text, logprob }];
  const rest = 1 - all.reduce((sum, other) => sum + Math.exp(other.logprob), 0);
  const row = (name, p, click) => {
    const bar = el("i");
    bar.style.width = `${100 * p}%`;
    return el(click ? "button" : "div", click ? { type: "button", title: "Go on with this", click } : {},
      el("span", { className: "mono" }, name), el("span", { className: "bar" }, bar),
      `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`);
  };
  const found = all.map((other) => {
    const isChosen = other.text === text;
    const may = choose && !isChosen && !other.text.includes("\ufffd"); // a part of a character is no text
    return el("li", isChosen ? { ariaCurrent: "true" } : {},
      row(visible(other.text), Math.exp(other.logprob), may ? () => choose(other) : null));
  });
  return rest > 0.0005 ? [...found, el("li", { className: "hint" }, row("all others", rest))] : found;
}

/** A token with its blanks to be seen. */
const visible = (text) => text.replace(/^ | $/g, "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "(nothing)";

function walk(by) {
  const { view, index, choose } = opened;
  if (view.message.words[index + by]) open(view, index + by, choose);
}

const close = () => box.hidePopover();

box.addEventListener("keydown", ({ key }) => {
  if (key === "ArrowLeft") walk(-1);
  if (key === "ArrowRight") walk(1);
});
box.addEventListener("toggle", ({ newState }) => {
  if (newState !== "closed") return;
  for (const name of ["word", "rare", "unlikely"]) highlight(name, []);
  $("#scroll").style.paddingBottom = "";
});
