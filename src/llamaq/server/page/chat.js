// A conversation as a tree of messages, and how an answer joins it.

import { answer } from "./api.js";
import { freshId } from "./dom.js";
import { contentOf } from "./pictures.js";
import * as store from "./store.js";

const KEEP_EVERY = 1000; // milliseconds between two keepings of an answer that grows

/** Answers that are being made, by ids: their `AbortController`s. */
export const running = new Map();

export class Chat {
  constructor(record, messages) {
    this.record = record;
    this.messages = new Map(messages.map((message) => [message.id, { pictures: [], ...message }])); // old ones have none
  }

  static begin(system = "") {
    return new Chat({ id: freshId(), title: "", system, head: "", created: Date.now() }, []);
  }

  /** A message and those above it, the first first. */
  path(last = this.record.head) {
    const found = [];
    for (let next = this.messages.get(last); next; next = this.messages.get(next.parent)) found.unshift(next);
    return found;
  }

  /** The branches of a parent, the oldest first. */
  branches(parent) {
    return [...this.messages.values()].filter((each) => each.parent === parent).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Shows the branch of a message, to its newest end. */
  async select(message) {
    for (let next = message; next; next = this.branches(next.id).at(-1)) this.record.head = next.id;
    await store.keep(this.record);
  }

  /** A new message behind `parent`, which is shown. */
  async add(parent, role, fields) {
    const message = structuredClone({
      ...store.MESSAGE, calls: [], pictures: [], words: [], id: freshId(), conversation: this.record.id, parent, role,
      created: Date.now(), ...fields,
    });
    this.messages.set(message.id, message);
    this.record.head = message.id;
    this.record.title ||= message.content.trim().slice(0, 80) || "Picture";
    await store.keep(this.record, message);
    return message;
  }

  /** A conversation of its own with the messages up to this one. */
  async branched(message) {
    const messages = this.path(message.id);
    const copy = store.renewed({ ...this.record, messages, head: message.id, created: Date.now() });
    await store.keep(copy[0], ...copy[1]);
    return new Chat(...copy);
  }

  /** The messages of a request whose answer follows `last`; where that is an answer, it goes on. */
  request(last = this.record.head) {
    const found = this.path(last).map(({ role, content, pictures, reasoning, calls }) => ({
      role,
      content: contentOf(content, pictures),
      reasoning_content: reasoning || undefined,
      tool_calls: calls.length ? calls.map(({ id, ...made }) => ({ id, type: "function", function: made })) : undefined,
    })).filter(({ role, content, tool_calls: calls }) => role !== "assistant" || content || calls);
    return this.record.system.trim() ? [{ role: "system", content: this.record.system }, ...found] : found;
  }

  /** Lets the model fill an answer, which may have begun; `changed` is called as it grows. `fields` are the rest of the
   * request. Throws `Failure` where a key is needed. */
  async fill(message, fields, changed) {
    const messages = this.request(message.content ? message.id : message.parent);
    const controller = new AbortController();
    running.set(message.id, controller);
    const reader = new Reader(message);
    let kept = Date.now();
    try {
      for await (const frame of answer({ ...fields, messages }, controller.signal)) {
        reader.take(frame);
        changed();
        if (Date.now() - kept < KEEP_EVERY) continue;
        kept = Date.now();
        await store.keep(null, message);
      }
    } catch (error) {
      if (controller.signal.aborted) message.end = "stopped";
      else message.error = error.message;
      if (error.status === 401) throw error;
    } finally {
      running.delete(message.id);
      if (this.messages.has(message.id)) await store.keep(null, message);
    }
  }
}

/** Puts the frames of an answer into its message. */
class Reader {
  constructor(message) {
    this.message = message;
    this.held = []; // tokens whose text has not come yet
  }

  take({ told, model, usage, timings = {}, choices = [] }) {
    const { message } = this;
    Object.assign(message.figures, told);
    message.model = model ?? message.model;
    for (const { delta, logprobs, finish_reason: end } of choices) {
      this.held.push(...(logprobs?.content ?? []).map(tokenOf));
      this.text("reasoning", delta.reasoning_content);
      this.text("content", delta.content);
      for (const { index, id, function: made } of delta.tool_calls ?? []) {
        const call = (message.calls[index] ??= { id: "", name: "", arguments: "" });
        call.id ||= id ?? "";
        call.name += made.name ?? "";
        call.arguments += made.arguments ?? "";
      }
      message.end = end ?? message.end;
    }
    if (usage) {
      Object.assign(message.figures, {
        made: usage.completion_tokens, prompt: usage.prompt_tokens, used: usage.total_tokens, cached: timings.cache_n,
        why: timings.why, speed: timings.predicted_per_second, wait: timings.prompt_ms,
      });
    }
  }

  text(part, text) {
    if (!text) return;
    const { message } = this;
    const start = message[part].length;
    message[part] += text;
    const tokens = this.held.splice(0);
    if (tokens.length) message.words.push({ part, start, end: start + text.length, tokens });
    const now = performance.now();
    this.began ??= now;
    const { figures } = message;
    figures.made++;
    figures.speed = now - this.began > 200 ? (1000 * (figures.made - 1)) / (now - this.began) : 0;
  }
}

const tokenOf = ({ token: text, logprob, top_logprobs: top }) =>
  ({ text, logprob, top: (top ?? []).map((other) => ({ text: other.token, logprob: other.logprob })) });
