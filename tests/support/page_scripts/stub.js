// From now on the page gets these bytes as the answer of a chat, in pieces of a few bytes, instead of the server's.
const [text, size] = arguments;
const fetched = window.fetch;
window.fetch = async (path, options) => {
  if (path !== "v1/chat/completions") return fetched(path, options);
  window.asked = JSON.parse(options.body);
  const bytes = new TextEncoder().encode(text);
  const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size));
  const body = new ReadableStream({
    pull: (to) => (pieces.length ? to.enqueue(pieces.shift()) : to.close()),
  });
  return new Response(body, { headers: { "x-llamaq-ignored": "colour" } });
};
