// The server's routes. Paths are relative, so that the page works below any address.

export const key = {
  get: () => sessionStorage.getItem("llamaq.key") ?? "",
  set: (value) => sessionStorage.setItem("llamaq.key", value.trim()),
};

/** What the server refused, or why nothing came; `status` is HTTP's. */
export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...options, headers, signal, cache: "no-store" }).catch(() => {
    throw new Failure("The server cannot be reached.");
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Failure(said?.error?.message ?? `The server answered ${response.status}.`, response.status);
}

/** The models that are served: `{id, meta: {n_ctx, ...}}`. */
export const models = async () => (await (await ask("v1/models")).json()).data;

/** The text that a request becomes for the model. */
export const promptOf = async (body) => (await (await ask("apply-template", body)).json()).prompt;

/** The events of an answer, after one with what its headers tell. Throws `Failure`, also where it breaks off. */
export async function* answer(body, signal) {
  const response = await ask("v1/chat/completions", body, signal);
  const told = (name) => response.headers.get(name) ?? "";
  yield { told: { seed: told("x-llamaq-seed"), ignored: told("x-llamaq-ignored") } };
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) throw new Failure("The connection broke off before the answer was whole.");
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      if (event === "data: [DONE]") return;
      if (!event.startsWith("data: ")) continue; // a sign of life
      const frame = JSON.parse(event.slice(6));
      if (frame.error) throw new Failure(frame.error.message);
      yield frame;
    }
  }
}
