// The point of the screen where the character of the answer's source is.
const walker = document.createTreeWalker(document.querySelector("article.assistant > .prose"), NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const k = walker.currentNode.at.indexOf(arguments[0]);
  if (k < 0) continue;
  const range = document.createRange();
  range.setStart(walker.currentNode, k);
  range.setEnd(walker.currentNode, k + 1);
  const { left, top, width, height } = range.getBoundingClientRect();
  return [Math.round(left + width / 2), Math.round(top + height / 2)];
}
