// Conversations, kept in this browser alone (IndexedDB): a record for each, and one for each message.

import { freshId } from "./dom.js";

const FORMAT = "llamaq conversations";

/** A conversation; `head` is the message that is shown last. */
const CONVERSATION = { id: "", title: "", system: "", head: "", created: 0 };

/** A message. Several with one `parent` are branches of it. A word is a piece of `content` or `reasoning`, as it came,
 * with its tokens; a picture is a data URL. */
export const MESSAGE = {
  id: "", conversation: "", parent: "", role: "", content: "", reasoning: "", error: "", end: "", model: "",
  created: 0, structured: false, calls: [{ id: "", name: "", arguments: "" }],
  pictures: [""], words: [{ part: "", start: 0, end: 0, tokens: [{ text: "", logprob: 0, top: [{ text: "", logprob: 0 }] }] }],
  figures: { made: 0, prompt: 0, cached: 0, used: 0, speed: 0, wait: 0, seed: "", why: "", ignored: "" },
};

const opened = new Promise((resolve, reject) => {
  const request = indexedDB.open("llamaq", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("conversations", { keyPath: "id" });
    request.result.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
  };
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
opened.catch(() => {}); // whoever waits for it is told

const tabs = new BroadcastChannel("llamaq");

/** Calls `changed` when another tab has changed something. */
export const watch = (changed) => (tabs.onmessage = changed);

/** The result of what `work` asks of the two stores, once all is kept. */
async function transact(mode, work) {
  const transaction = (await opened).transaction(["conversations", "messages"], mode);
  return new Promise((resolve, reject) => {
    const request = work(transaction.objectStore("conversations"), transaction.objectStore("messages"));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** All conversations, the newest first. */
export async function conversations() {
  const found = await transact("readonly", (records) => records.getAll());
  return found.sort((a, b) => b.created - a.created);
}

export const messagesOf = (id) => transact("readonly", (_, messages) => messages.index("conversation").getAll(id));

export async function keep(conversation, ...added) {
  await transact("readwrite", (records, messages) => {
    if (conversation) records.put(conversation);
    for (const message of added) messages.put(message);
  });
  if (conversation) tabs.postMessage("");
}

export async function remove(id) {
  const messages = await messagesOf(id);
  await transact("readwrite", (records, store) => {
    records.delete(id);
    for (const message of messages) store.delete(message.id);
  });
  tabs.postMessage("");
}

/** Everything as the text of a file. */
export async function exported() {
  const found = await conversations();
  for (const each of found) each.messages = await messagesOf(each.id);
  return JSON.stringify({ format: FORMAT, conversations: found });
}

/** Keeps the conversations of such a file, too; their number. Throws `Error` for another file. */
export async function imported(text) {
  let file = null;
  try {
    file = JSON.parse(text);
  } catch {
    // another file, as below
  }
  if (file?.format !== FORMAT) throw new Error("This is no file of conversations that this page has exported.");
  const found = shaped(file.conversations, [{ ...CONVERSATION, messages: [MESSAGE] }]).map(renewed);
  for (const [conversation, messages] of found) await keep(conversation, ...messages);
  return found.length;
}

/** What is given, in the shape of a model: what it lacks or has of another kind is as it is there. */
function shaped(given, model) {
  if (Array.isArray(model)) return Array.isArray(given) ? given.map((each) => shaped(each, model[0])) : [];
  if (typeof model !== "object") return typeof given === typeof model ? given : model;
  return Object.fromEntries(Object.entries(model).map(([name, value]) => [name, shaped(given?.[name], value)]));
}

/** A conversation and its messages, with identifiers of their own. */
export function renewed({ messages, ...conversation }) {
  const id = freshId();
  const ids = new Map();
  const copies = messages.map((message) => {
    const parent = ids.get(message.parent) ?? ""; // one that came before, so that there is no circle
    ids.set(message.id, freshId());
    const pictures = message.pictures.filter((url) => url.startsWith("data:image/")); // no other is asked for
    return { ...message, pictures, id: ids.get(message.id), conversation: id, parent };
  });
  return [{ ...conversation, id, head: ids.get(conversation.head) ?? "" }, copies];
}
