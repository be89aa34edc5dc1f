// Markdown, as models write it, made into elements: never by way of HTML, for what a model writes is hostile.
//
// Each character that is shown knows its place in the source: a text node made here has `at`, the offsets of its
// characters. So a click finds the token behind it, and a token its place on the screen.

import { copyButton, el } from "./dom.js";

const DEEPEST = 12; // levels of quotes, lists and emphasis; what is deeper is plain
// No pattern has two ways to read the same run of characters: each takes as long as its line, whatever that is.
const FENCE = /^ {0,3}(`{3,}|~{3,})(?=[^`]*$) *(\S*)/;
const HEADING = /^ {0,3}(#{1,6})\s+/;
const RULE = /^ {0,3}([-*_]) *(\1 *){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+|$)/;
const TABLE = /^(?: *\|)?( *:?-+:? *\|)+( *:?-+:? *)?$/;

/** Shows `source` in `container`. Blocks that were shown before and are the same stay where they are. */
export function render(container, source) {
  const shown = container.keys ?? [];
  const found = blocksOf(linesOf(source));
  const keys = found.map(({ kind, lines }) => `${kind} ${lines[0].start} ${lines.map(({ text }) => text).join("\n")}`);
  let same = 0;
  while (same < keys.length && keys[same] === shown[same]) same++;
  while (container.childNodes.length > same) container.lastChild.remove();
  container.append(...found.slice(same).map((block) => build(block, 0)));
  container.keys = keys;
}

/** Shows `source` as code. */
export function renderCode(container, source, language) {
  container.replaceChildren(code(joined(linesOf(source)), language));
}

// Blocks. A line is its text, less what outer blocks have taken, and where that starts.

function linesOf(source) {
  let start = 0;
  return source.split("\n").map((text) => {
    start += text.length + 1;
    return { text, start: start - text.length - 1 };
  });
}

const cut = ({ text, start }, n) => ({ text: text.slice(n), start: start + n });
const beginsBlock = ({ text }) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(text));

/** The kinds and lines of blocks. */
function blocksOf(lines) {
  const found = [];
  for (let i = 0; i < lines.length;) {
    if (lines[i].text.trim()) {
      const [kind, end] = blockAt(lines, i);
      found.push({ kind, lines: lines.slice(i, end) });
      i = end;
    } else i++;
  }
  return found;
}

/** The kind of the block there, and the line behind it. */
function blockAt(lines, i) {
  const { text } = lines[i];
  const until = (belongs, end = i + 1) => {
    while (end < lines.length && belongs(lines[end].text, end)) end++;
    return end;
  };
  const fence = FENCE.exec(text)?.[1];
  if (fence) return ["code", until((line) => !line.trimStart().startsWith(fence)) + 1];
  if (HEADING.test(text)) return ["heading", i + 1];
  if (RULE.test(text)) return ["rule", i + 1];
  if (QUOTE.test(text)) return ["quote", until((line) => QUOTE.test(line))];
  if (ITEM.test(text)) {
    const isNumbered = (line) => /^\s*\d/.test(line);
    return ["list", until((line, k) => !line.trim() || /^(\t| {2})/.test(line) ||
      (ITEM.test(line) ? !RULE.test(line) && isNumbered(line) === isNumbered(text)
        : lines[k - 1].text.trim() && !beginsBlock(lines[k])))];
  }
  if (text.includes("|") && TABLE.test(lines[i + 1]?.text)) return ["table", until((line) => line.includes("|"))];
  return ["paragraph", until((line, k) => line.trim() && !beginsBlock(lines[k]))];
}

// Elements.

function build({ kind, lines }, depth) {
  const [first] = lines;
  const inner = (each) => blocksOf(each).map((block) => build(block, depth + 1));
  if (depth > DEEPEST) kind = "paragraph";
  if (kind === "code") {
    const [, fence, language] = FENCE.exec(first.text);
    const isClosed = lines.length > 1 && lines.at(-1).text.trimStart().startsWith(fence);
    return code(joined(lines.slice(1, isClosed ? -1 : undefined)), language || "text");
  }
  if (kind === "heading") {
    const [mark, { length }] = HEADING.exec(first.text);
    return el(`h${Math.min(length + 1, 6)}`, {}, ...inline(joined([cut(first, mark.length)]), depth));
  }
  if (kind === "rule") return el("hr");
  if (kind === "quote") {
    return el("blockquote", {}, ...inner(lines.map((line) => cut(line, QUOTE.exec(line.text)[0].length))));
  }
  if (kind === "list") {
    const number = parseInt(ITEM.exec(first.text)[2], 10);
    const items = itemsOf(lines).map((item) => el("li", {}, ...inner(item)));
    return number >= 0 ? el("ol", { start: number }, ...items) : el("ul", {}, ...items);
  }
  if (kind === "table") return table(lines, depth);
  return el("p", {}, ...inline(joined(lines), depth));
}

function code(text, language) {
  return el("figure", { className: "code" },
    el("figcaption", {}, language, copyButton("Copy the code", () => text.text)),
    el("pre", { tabIndex: 0, role: "group", ariaLabel: `Code: ${language}` }, el("code", {}, textNode(text))));
}

/** The lines of each item of a list, without its mark and indent. */
function itemsOf(lines) {
  const outer = ITEM.exec(lines[0].text)[1].length;
  const items = [];
  let indent = 0;
  for (const line of lines) {
    const item = ITEM.exec(line.text);
    if (item && item[1].length <= outer + 1) {
      indent = item[0].length;
      items.push([cut(line, indent)]);
    } else items.at(-1).push(cut(line, Math.min(/^\s*/.exec(line.text)[0].length, line.text[0] === "\t" ? 1 : indent)));
  }
  return items;
}

function table(lines, depth) {
  const [head, , ...rows] = lines.map(({ text, start }) => text.split("|").map((cell) => {
    const blanks = cell.length - cell.trimStart().length;
    start += cell.length + 1;
    return { text: cell.trim(), start: start - cell.length - 1 + blanks };
  }).filter((cell, i, { length }) => cell.text || (i > 0 && i < length - 1)));
  // A short row stays short: filled up, few lines would make more cells than a browser can show.
  const row = (cells, tag) => el("tr", {},
    ...cells.slice(0, head.length).map((cell) => el(tag, {}, ...inline(joined([cell]), depth))));
  return el("div", { className: "table", tabIndex: 0, role: "group", ariaLabel: "Table" },
    el("table", {}, row(head, "th"), ...rows.map((cells) => row(cells, "td"))));
}

// Text within blocks: `{text, at}`.

function joined(lines) {
  const at = lines.flatMap(({ text, start }) => Array.from({ length: text.length + 1 }, (_, i) => start + i));
  return { text: lines.map(({ text }) => text).join("\n"), at };
}

const textNode = ({ text, at }) => Object.assign(document.createTextNode(text), { at: at.slice(0, text.length) });

// The length within marks is bounded, so that no text takes long.
const INLINE = new RegExp([
  String.raw`\\(?<escaped>[!-/:-@[-\x60{-~])`,
  String.raw`(?<!(?:^|[^\\])\x60)(?<ticks>\x60+)(?!\x60)(?<code>[^]{0,2000}?[^\x60])\k<ticks>(?!\x60)`,
  String.raw`!?\[(?<label>[^[\]]{0,500})\]\((?<href>[^()\s]{1,1000}(?:\([^()\s]{0,200}\)[^()\s]{0,200})?)[^()\n]{0,200}\)`,
  String.raw`(?<url>https?://[^\s<>"'\x60()[\]]{0,1000}[^\s<>"'\x60()[\].,:;!?*_~])`,
  String.raw`\*\*(?=\S)(?<strong>[^]{0,2000}?\S)\*\*(?!\*)`,
  String.raw`\*(?=[^\s*])(?<em>[^*]{0,2000}?[^\s*])\*`,
  String.raw`(?<!\w)_(?=[^\s_])(?<em2>[^_]{0,2000}?[^\s_])_(?!\w)`,
  String.raw`~~(?=\S)(?<del>[^]{0,2000}?\S)~~`,
].join("|"), "gd");

/** The nodes of a text. */
function inline({ text, at }, depth) {
  const part = (from, to) => ({ text: text.slice(from, to), at: at.slice(from, to) });
  const found = [];
  let end = 0;
  for (const match of depth > DEEPEST ? [] : text.matchAll(INLINE)) {
    const [name, span] = Object.entries(match.indices.groups).find(([key, value]) => value && key !== "ticks");
    found.push(textNode(part(end, match.index)));
    end = match.index + match[0].length;
    const inner = part(...span);
    if (name === "escaped") found.push(textNode(inner));
    else if (name === "code") found.push(el("code", {}, textNode(inner)));
    else if (name === "url") found.push(link(inner.text, textNode(inner)));
    else if (name === "label") found.push(link(match.groups.href, ...inline(inner, depth + 1)));
    else found.push(el(name.replace("2", ""), {}, ...inline(inner, depth + 1)));
  }
  return [...found, textNode(part(end, text.length))];
}

/** A link where the address is one of the web; else its text alone. Pictures are links, too: none is fetched. */
function link(href, ...children) {
  if (!/^(https?:\/\/|mailto:)/i.test(href)) return el("span", {}, ...children);
  return el("a", { href, title: href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}
