// The settings: kept in this browser, but for the key, which goes with its tab.

import { Failure, key } from "./api.js";
import { $ } from "./dom.js";

const KEPT = "llamaq.settings";
const form = $("#settings form");
const controls = [...form.elements].filter((control) => control.name);

/** The fields of the form by name, and `system` and `model`. */
export const settings = JSON.parse(localStorage.getItem(KEPT) ?? "{}");

export function keepSettings(changes) {
  Object.assign(settings, changes);
  localStorage.setItem(KEPT, JSON.stringify(settings));
}

/** Fills the form, and keeps what becomes of it. */
export function begin() {
  for (const control of controls) {
    const property = control.type === "checkbox" ? "checked" : "value";
    if (control.type === "number") control.step = "any";
    if (settings[control.name]) control[property] = settings[control.name];
    control.addEventListener("input", () => {
      keepSettings({ [control.name]: control[property] });
    });
  }
  $("#key").value = key.get();
  $("#key").addEventListener("input", () => key.set($("#key").value));
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** The JSON of a setting, undefined where there is none. Throws `Failure`. */
function json(name) {
  try {
    return settings[name]?.trim() ? JSON.parse(settings[name]) : undefined;
  } catch (error) {
    throw new Failure(`“${name}” in the settings cannot be read as JSON: ${error.message}`);
  }
}

/** The fields of a request that the settings ask for. Throws `Failure`. */
export function fields() {
  const found = { stream: true, stream_options: { include_usage: true }, logprobs: true, top_logprobs: 5 };
  for (const { name, type } of controls) if (type === "number" && settings[name]) found[name] = Number(settings[name]);
  found.model = settings.model || undefined;
  const schema = settings.use_schema && json("schema");
  if (schema) found.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
  return { ...found, ...json("extra") };
}
