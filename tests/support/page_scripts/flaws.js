// What is wrong with what is shown: controls without a name, ids twice, faint text, things outside the screen.
const flaws = [];
const nameOf = (e) => (e.ariaLabel ?? "") + e.textContent + [...(e.labels ?? [])].map((label) => label.textContent);
const isShown = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
const short = (e) => e.outerHTML.slice(0, 200);

const controls = "button, input, select, textarea, dialog, [role=meter], main [tabindex='0']";
for (const e of document.querySelectorAll(controls)) if (!nameOf(e).trim()) flaws.push(["no name", short(e)]);
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
if (new Set(ids).size < ids.length) flaws.push(["ids twice", ids]);

// The contrast of WCAG 2: 4.5 for texts.
const rgba = (color) => color.match(/[\d.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = rgba(color).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
};
const behind = (e) => {
  const color = getComputedStyle(e).backgroundColor;
  return rgba(color)[3] === 0 ? behind(e.parentElement) : color;
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let texts = 0;
while (walker.nextNode()) {
  const { data, parentElement: e } = walker.currentNode;
  if (!data.trim() || !isShown(e) || e.closest(":disabled, option")) continue;
  texts++;
  const ratio = luminance(getComputedStyle(e).color) / luminance(behind(e));
  if (Math.max(ratio, 1 / ratio) < 4.5) flaws.push(["faint", ratio, data.slice(0, 40)]);
}
if (texts < 10) flaws.push(["few texts", texts]);

if (document.documentElement.scrollWidth > innerWidth) flaws.push(["too wide", document.documentElement.scrollWidth]);
for (const e of document.querySelectorAll("main *, dialog[open] *, :popover-open *")) {
  const { left, right, width } = e.getBoundingClientRect();
  const scrolls = e.closest("pre, svg, .table");
  if (width > 1 && isShown(e) && !scrolls && (left < -1 || right > innerWidth + 1)) flaws.push(["outside", short(e)]);
}
return flaws;
