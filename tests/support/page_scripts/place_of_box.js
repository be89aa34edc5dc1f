// Where the word is whose alternatives are shown, their box, and what scrolls.
const rect = (e) => e.getBoundingClientRect().toJSON();
const [word] = CSS.highlights.get("word");
return [word, document.querySelector("#words"), document.querySelector("#scroll")].map(rect);
