// The page: what is shown, and what its buttons do.

import { models as served, promptOf } from "./api.js";
import { Chat, running } from "./chat.js";
import { $, el, icon, iconButton, notice, number, say } from "./dom.js";
import { MessageView } from "./message.js";
import { add, contentOf, showWaiting, waiting } from "./pictures.js";
import * as settings from "./settings.js";
import * as store from "./store.js";

const SHOWN = "llamaq.shown"; // what a reload shows again
const RETRY = 2000; // milliseconds
const chats = new Map(); // those of this tab: answers run on while others are shown
const views = new Map(); // the messages that are shown, by their ids
let chat = null;
let models = [];

// What the buttons of messages do, and what messages ask.
const actions = {
  branches: ({ parent }) => chat.branches(parent),
  isRunning: ({ id }) => running.has(id),
  select: guarded(async (message) => {
    await chat.select(message);
    show();
    views.get(message.id).element.focus();
  }),
  again: guarded(({ parent }) => respond(parent)),
  goOn: guarded(({ parent, content, reasoning, words }, word) => {
    const [{ text }] = word.tokens; // in the place of what was there
    const before = words.filter(({ part, end }) => part !== word.part || end <= word.start);
    return respond(parent, { reasoning, content: content.slice(0, word.start) + text, words: [...before, word] });
  }),
  resume: guarded(({ parent, content, reasoning, words }) => respond(parent, { content, reasoning, words })),
  branch: guarded(async (message) => {
    turnTo(await chat.branched(message));
    await list();
    say("A new conversation");
  }),
  edit: guarded(async ({ parent, role, calls }, content, pictures) => {
    const { id } = await chat.add(parent, role, { content, calls, pictures });
    await (role === "user" ? respond(id) : show());
  }),
};

/** A function that tells what goes wrong with it. */
function guarded(work) {
  return async (...given) => {
    try {
      notice("");
      await work(...given);
    } catch (error) {
      notice(error.message);
      if (error.status === 401) openSettings("#key");
    }
  };
}

// Answers.

const current = () => chat.path().find(actions.isRunning);
const stop = () => running.get(current()?.id)?.abort();

const ask = guarded(async () => {
  const content = $("#question").value.trim();
  if (!(content || waiting.length) || current()) return;
  settings.fields(); // what is wrong with them is told before anything is kept
  if (waiting.length) checkSight();
  const { id } = await chat.add(chat.record.head, "user", { content, pictures: waiting.splice(0) });
  showWaiting();
  $("#question").value = "";
  await list();
  await respond(id);
});

const attach = guarded(async (files) => {
  if (!files.length) return;
  checkSight();
  await add(files);
  $("#question").focus();
});

/** Throws `Error` where the model is known to read text only: one that is not loaded yet tells it itself. */
function checkSight() {
  const model = chosen();
  if (model?.architecture?.input_modalities.includes("image") === false) {
    throw new Error(`${model.id} cannot see pictures: it has no projector (--mmproj).`);
  }
}

/** Lets the model answer a message; the answer may have begun. */
async function respond(parent, begun) {
  const where = chat;
  const fields = settings.fields();
  const structured = Boolean(fields.response_format);
  const message = await where.add(parent, "assistant", { structured, ...begun });
  const filled = where.fill(message, fields, () => where === chat && refresh());
  show();
  toEnd();
  if (document.activeElement === document.body) views.get(message.id).element.focus(); // its button is gone
  await filled;
  if (!chosen()?.meta?.n_ctx) await connect(); // it was loaded for this answer
  if (where !== chat) return;
  show();
  say(message.error || message.content);
}

let frame = 0;

/** Shows what an answer has become, once a frame. */
function refresh() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const { scrollHeight, scrollTop, clientHeight } = $("#scroll");
    views.get(current()?.id)?.update();
    if (scrollHeight - scrollTop - clientHeight < 60) toEnd();
    showContext();
  });
}

const toEnd = () => $("#scroll").scrollTo(0, $("#scroll").scrollHeight);

// What is shown.

function show() {
  const path = chat.path();
  const shown = path.map((message) => views.get(message.id) ?? new MessageView(message, actions));
  views.clear();
  for (const view of shown) views.set(view.message.id, view);
  const { children } = $("#messages");
  let same = 0; // those stay where they are, with the focus and the scroll bar
  while (same < shown.length && children[same] === shown[same].element) same++;
  while (children.length > same) children[same].remove();
  $("#messages").append(...shown.slice(same).map(({ element }) => element));
  for (const view of shown) view.update();
  $("#welcome").hidden = path.length > 0;
  $("#send").ariaLabel = current() ? "Stop" : "Send";
  $("#send").replaceChildren(icon(current() ? "stop" : "send"));
  $("#system").value = chat.record.system;
  document.title = chat.record.title || "llamaq";
  for (const { firstChild: each } of $("#list").children) each.ariaCurrent = String(each.value === chat.record.id);
  showContext();
}

function showContext() {
  const size = chosen()?.meta?.n_ctx;
  const used = chat.path().reduce((sum, { figures }) => figures.used || sum + figures.made, 0);
  $("#meter").hidden = !size;
  $("#context").ariaValueMax = size;
  $("#context").ariaValueNow = used;
  $("#context div").style.width = `${Math.min(100, (100 * used) / size)}%`;
  $("#meter span").textContent = `${number(used)} of ${number(size ?? 0)} tokens`;
}

const chosen = () => models.find(({ id }) => id === $("#model").value);

async function list() {
  $("#list").replaceChildren(...(await store.conversations()).map((record) => el("li", {},
    el("button", { value: record.id, ariaCurrent: String(record.id === chat.record.id), click: () => open(record) },
      record.title), iconButton("delete", "Delete", () => remove(record)))));
}

function turnTo(other) {
  chat = other;
  chats.set(chat.record.id, chat);
  sessionStorage.setItem(SHOWN, chat.record.id);
  show();
  toEnd();
  toggleSide(false);
}

const open = guarded(async (record) =>
  turnTo(chats.get(record.id) ?? new Chat(record, await store.messagesOf(record.id))));

function begin() {
  turnTo(Chat.begin(settings.settings.system));
  $("#question").focus();
}

const remove = guarded(async ({ id, title }) => {
  if (!confirm(`Delete “${title}”?`)) return;
  const messages = chats.get(id)?.messages ?? new Map();
  for (const each of messages.keys()) running.get(each)?.abort();
  messages.clear();
  await store.remove(id);
  await list();
  if (id === chat.record.id) begin();
});

const connect = guarded(async () => {
  try {
    models = await served();
  } catch (error) {
    if (error.status !== 503) throw error;
    $("#model").replaceChildren(el("option", { value: "" }, error.message)); // the model is being loaded
    setTimeout(connect, RETRY);
    return;
  }
  const { model } = settings.settings;
  $("#model").replaceChildren(...models.map(({ id }) => el("option", { selected: id === model }, id)));
  chooseModel();
});

function chooseModel() {
  settings.keepSettings({ model: $("#model").value });
  showContext();
}

// Dialogs, the list at the side, files.

function openSettings(selector) {
  if (!$("#settings").open) $("#settings").showModal();
  $(selector)?.focus();
}

async function openPrompt() {
  $("#prompt").showModal();
  const shown = $("#prompt pre");
  try {
    const { tools, reasoning_effort, chat_template_kwargs } = settings.fields();
    const draft = $("#question").value.trim();
    const messages = [...chat.request(),
      ...(draft || waiting.length ? [{ role: "user", content: contentOf(draft, waiting) }] : [])];
    shown.textContent = await promptOf({ messages, tools, reasoning_effort, chat_template_kwargs });
  } catch (error) {
    shown.textContent = error.status === 404 ? "This server does not show its prompts." : error.message;
  }
}

function toggleSide(isOpen) {
  $("#side").classList.toggle("open", isOpen);
  $("#veil").hidden = !isOpen;
  $("#side-open").ariaExpanded = String(isOpen);
}

const save = guarded(async () => {
  const href = URL.createObjectURL(new Blob([await store.exported()], { type: "application/json" }));
  el("a", { href, download: "llamaq-conversations.json" }).click();
});

const load = guarded(async () => {
  const count = await store.imported(await $("#file").files[0].text());
  $("#file").value = "";
  await list();
  notice(`Conversations imported: ${count}`);
});

for (const [selector, handler] of Object.entries({
  "#new": begin, "#send": () => (current() ? stop() : ask()), "#export": save, "#import": () => $("#file").click(),
  "#side-open": () => toggleSide(true), "#side-close": () => toggleSide(false), "#veil": () => toggleSide(false),
  "#attach": () => $("#pictures").click(), "#settings-open": () => openSettings(), "#prompt-open": openPrompt,
})) $(selector).onclick = handler;
for (const button of document.querySelectorAll("[data-icon]")) {
  button.title = button.ariaLabel ?? "";
  button.prepend(icon(button.dataset.icon));
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.onclick = ({ target }) => (target === dialog || target.closest("header button")) && dialog.close();
}
$("#settings").onclose = () => models.length || connect();
$("#file").onchange = load;
$("#pictures").onchange = async ({ target }) => {
  await attach(target.files);
  target.value = ""; // the same file may be chosen again
};
document.onpaste = ({ clipboardData: { files, types } }) => types.includes("text/plain") || attach(files);
document.ondragover = (event) => event.dataTransfer.types.includes("Files") && event.preventDefault();
document.ondrop = (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault(); // the browser would leave the page for the file
  attach(event.dataTransfer.files);
};
$("#model").onchange = chooseModel;
$("#question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
};
document.onkeydown = ({ key }) => {
  if (key !== "Escape" || document.querySelector("dialog[open], :popover-open")) return;
  toggleSide(false);
  stop();
};
$("#system").oninput = guarded(async () => {
  chat.record.system = $("#system").value;
  settings.keepSettings({ system: chat.record.system });
  if (chat.messages.size) await store.keep(chat.record);
});
settings.begin();
store.watch(guarded(list));

const last = sessionStorage.getItem(SHOWN);
begin();
await guarded(async () => {
  await list();
  const record = (await store.conversations()).find(({ id }) => id === last);
  if (record) await open(record);
})();
await connect();
