// How a message looks, and what can be done with it.

import { copyButton, el, iconButton, number } from "./dom.js";
import { render, renderCode } from "./markdown.js";
import { thumbnails } from "./pictures.js";
import * as words from "./words.js";

const ENDS = { length: "cut off at the limit of tokens", stopped: "stopped" };

/** Whether an answer may go on from a place in its text. */
const isProse = ({ structured, calls }) => !structured && !calls.length;
const isCut = ({ end, error, content }) => Boolean(content && (error || ENDS[end]));

/** A message on the screen; `actions` are those of page.js. */
export class MessageView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    const isAnswer = message.role === "assistant";
    this.parts = {
      content: el("div", { className: isAnswer ? "prose" : "plain" }),
      reasoning: el("div", { className: "prose" }),
    };
    this.thought = el("details", {}, el("summary", {}, "Reasoning"), this.parts.reasoning);
    this.calls = el("div");
    this.pictures = el("div", { className: "pictures" }, ...thumbnails(message.pictures));
    this.error = el("p", { className: "error" });
    this.foot = el("footer");
    this.element = el("article", { className: message.role, ariaLabel: isAnswer ? "The model" : "You", tabIndex: -1 },
      this.thought, this.pictures, this.parts.content, this.calls, this.error, this.foot);
    for (const part of isAnswer ? Object.values(this.parts) : []) {
      part.addEventListener("click", (event) => {
        const isWord = !event.target.closest("a, button") && getSelection().isCollapsed;
        if (isWord) this.openWord(words.wordAt(this, event));
      });
      part.addEventListener("pointermove", (event) => words.hover(this, words.wordAt(this, event)));
      part.addEventListener("pointerleave", () => words.hover(this, -1));
    }
  }

  openWord(index) {
    const { message, actions } = this;
    const may = isProse(message) && !actions.isRunning(message);
    if (index >= 0) words.open(this, index, may ? (word) => actions.goOn(message, word) : null);
  }

  update() {
    const { message, parts: { content, reasoning } } = this;
    const isRunning = this.actions.isRunning(message);
    this.element.classList.toggle("running", isRunning);
    content.hidden = !message.content && message.pictures.length > 0;
    if (message.role !== "assistant") content.textContent = message.content;
    else if (message.structured && message.content) renderCode(content, message.content, "json");
    else render(content, message.content);
    render(reasoning, message.reasoning);
    this.thought.hidden = !message.reasoning;
    this.error.textContent = message.error;
    this.calls.replaceChildren(...message.calls.map(({ name, arguments: text }) =>
      el("figure", { className: "code" }, el("figcaption", {}, `Calls ${name}`), el("pre", { tabIndex: 0 }, text))));
    this.foot.replaceChildren(...this.footer(isRunning));
  }

  footer(isRunning) {
    const { message, actions } = this;
    const isAnswer = message.role === "assistant";
    if (isRunning) return [el("span", { className: "hint" }, speedOf(message) || "Reading the prompt")];
    return [
      ...this.branches(),
      copyButton("Copy", () => message.content),
      iconButton("edit", "Edit", () => this.edit()),
      ...(isAnswer ? [iconButton("again", "Answer again", () => actions.again(message))] : []),
      ...(isAnswer && isProse(message) && isCut(message)
        ? [iconButton("resume", "Go on with this answer", () => actions.resume(message))] : []),
      ...(message.words.length ? [iconButton("words", "Alternatives of the words", () => this.openWord(0))] : []),
      iconButton("branch", "Branch into a new conversation", () => actions.branch(message)),
      ...(isAnswer ? [figures(message)] : []),
    ];
  }

  branches() {
    const all = this.actions.branches(this.message);
    const at = all.indexOf(this.message);
    const to = (by, icon, label) =>
      iconButton(icon, label, () => this.actions.select(all[at + by]), { disabled: !all[at + by] });
    return all.length < 2 ? [] : [to(-1, "back", "The branch before"),
      el("span", { className: "hint", role: "img", ariaLabel: `Branch ${at + 1} of ${all.length}` },
        `${at + 1}/${all.length}`), to(1, "next", "The next branch")];
  }

  edit() {
    const { message, parts: { content }, pictures: shown, foot, actions } = this;
    const pictures = [...message.pictures];
    const showPictures = (remove) => shown.replaceChildren(...thumbnails(remove ? pictures : message.pictures, remove));
    const remove = (i) => {
      pictures.splice(i, 1);
      showPictures(remove);
      field.focus(); // the button is gone
    };
    const field = el("textarea", { value: message.content, ariaLabel: "The message" });
    const end = () => {
      editor.replaceWith(content);
      showPictures();
      foot.hidden = false;
    };
    const save = () => {
      end();
      if (field.value.trim() || pictures.length) actions.edit(message, field.value, pictures);
    };
    const editor = el("div", { className: "editor" }, field, el("button", { click: end }, "Cancel"),
      el("button", { className: "main", click: save }, message.role === "user" ? "Send" : "Keep as a branch"));
    content.replaceWith(editor);
    showPictures(remove);
    foot.hidden = true;
    field.focus();
  }
}

const speedOf = ({ figures: { made, speed } }) =>
  made ? `${number(made)} token${made > 1 ? "s" : ""}${speed ? ` · ${number(speed, 1)} tokens/s` : ""}` : "";

/** What an answer has cost: a line, and the rest behind it. */
function figures(message) {
  const { prompt, cached, why, wait, seed, ignored } = message.figures;
  const line = [speedOf(message) || "no token"];
  if (prompt) line.push(`${number(cached)} of ${number(prompt)} prompt tokens cached`);
  if (message.reasoning && !message.content && !message.calls.length) line.push("no answer after the reasoning");
  if (ENDS[message.end]) line.push(ENDS[message.end]);
  const rows = { "Why cached": why, "First token after": wait && `${number(wait / 1000, 2)} s`, Seed: seed,
    Model: message.model, "Ignored fields": ignored };
  return el("details", {}, el("summary", {}, line.join(" · ")), el("dl", {},
    ...Object.entries(rows).flatMap(([name, value]) => (value ? [el("dt", {}, name), el("dd", {}, value)] : []))));
}
