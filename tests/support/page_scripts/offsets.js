// Sources made of marks, at random from a seed, of which a character that is shown does not know its place, or which
// become something else when they come in pieces; and sources that must not take long.
import("/page/markdown.js").then(({ render }) => {
  const parts = ["a", " ", "\n", "*", "**", "`", "```", "- ", "1. ", "> ", "|", "|-|-|", "# ", "[b](http://c)", "\\", "~~",
    "  ", "\t", "x_y", "http://d.e"];
  let seed = 1;
  const draw = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const [whole, grown] = [document.createElement("div"), document.createElement("div")];
  const faults = [];
  for (let i = 0; i < 1500; i++) {
    const text = Array.from({ length: draw(30) }, () => parts[draw(parts.length)]).join("");
    grown.keys = [];
    for (let n = 0; n <= text.length; n += 3) render(grown, text.slice(0, n));
    render(grown, text);
    whole.keys = [];
    render(whole, text);
    if (grown.getHTML() !== whole.getHTML()) faults.push(["in pieces", text]);
    const walker = document.createTreeWalker(whole, NodeFilter.SHOW_TEXT);
    for (let last = -1; walker.nextNode();) {
      const { at, data, parentNode } = walker.currentNode;
      if (parentNode.tagName === "FIGCAPTION") continue;
      const isRight = at?.length === data.length && at.every((k, j) => text[k] === data[j] && k > (j ? at[j - 1] : last));
      if (!isRight) faults.push([text, data, at]);
      last = at?.at(-1) ?? last;
    }
  }
  const many = (text) => text.repeat(300000); // in which patterns that look twice would find no end
  const table = `${"|a".repeat(3000)}|\n${"|-".repeat(3000)}|\n${"|\n".repeat(30000)}`;
  const lines = [table, `a ${"`".repeat(10000)}`, "```" + many(" ") + "`", "```" + many("a") + "`", `a|\n${many(" ")}b`, `a|\n${many("-")}`];
  const marks = [">", "*", "`", "[", "- ", "_", "~~", "|", "1. "].map((mark) => mark.repeat(3000));
  for (const text of [...lines, marks.join("\n")]) render(whole, text);
  done(faults.slice(0, 3));
});
