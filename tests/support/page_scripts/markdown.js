// The elements that Markdown becomes, without what surrounds code and tables and without attributes but `start`.
import("/page/markdown.js").then(({ render }) => {
  const box = document.createElement("div");
  done(arguments[0].map((text) => {
    box.keys = [];
    render(box, text);
    for (const e of box.querySelectorAll("figcaption")) e.remove();
    for (const e of box.querySelectorAll("figure, div")) e.replaceWith(...e.childNodes);
    for (const e of box.querySelectorAll("*")) {
      for (const { name } of [...e.attributes]) if (name !== "start") e.removeAttribute(name);
    }
    return box.getHTML();
  }));
});
