// Elements made of values. Text stays text: nothing in the page reads HTML.

export const $ = (selector) => document.querySelector(selector);

/** An element; properties with a dash are attributes, functions are listeners, the rest are set as they are. */
export function el(tag, properties = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") found.addEventListener(name, value);
    else if (name.includes("-")) found.setAttribute(name, value);
    else found[name] = value;
  }
  found.append(...children);
  return found;
}

const ICONS = {
  add: "M12 5v14M5 12h14",
  again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  back: "M15 5l-7 7 7 7",
  branch: "M7 4v16M17 4v3c0 5-10 4-10 9",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  done: "M5 13l4 4L19 7",
  edit: "M4 20l1-5L16 4l4 4L9 19z",
  menu: "M4 7h16M4 12h16M4 17h16",
  next: "M9 5l7 7-7 7",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
  prompt: "M5 7l5 5-5 5M12 18h7",
  resume: "M6 5v14M11 6l8 6-8 6z",
  send: "M12 19V5M6 11l6-6 6 6",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  stop: "M7 7h10v10H7z",
  words: "M5 19v-7M10 19V5M15 19v-4M20 19v-9",
};

export function icon(name) {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("viewBox", "0 0 24 24");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button that is an icon and says what it does. */
export function iconButton(name, label, click, properties = {}) {
  return el("button", { type: "button", className: "icon", title: label, ariaLabel: label, click, ...properties },
    icon(name));
}

/** A button that copies what `text` gives. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    await copy(text());
    button.replaceChildren(icon("done"));
    say("Copied");
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = el("textarea", { value: text }); // without HTTPS there is no clipboard
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Lets screen readers say something once they are done with what they say. */
export const say = (text) => $("#live").replaceChildren(el("p", {}, text));

export const notice = (text) => ($("#notice").textContent = text);

let count = 0;

/** An identifier that none has had; later ones sort behind earlier ones. */
export const freshId = () => [Date.now(), count++, crypto.getRandomValues(new Uint32Array(1))[0]]
  .map((part) => part.toString(36).padStart(9, "0")).join("");

export const number = (x, digits = 0) => x.toLocaleString("en", { maximumFractionDigits: digits });
