// Pictures that go with a message, as data URLs, which is all that the server takes.

import { $, el, iconButton } from "./dom.js";

const READ = /^image\/(png|jpeg|webp|gif|bmp)$/; // what the server reads
const MOST_BYTES = 2e6; // each request has all pictures of its conversation, and the server takes 16 MiB
const EDGE = 2048; // pixels of the longer side of one that is made smaller

/** Those that go with the next message. */
export const waiting = [];

export function showWaiting() {
  $("#waiting").replaceChildren(...thumbnails(waiting, (i) => {
    waiting.splice(i, 1);
    showWaiting();
    $("#question").focus(); // the button is gone
  }));
}

/** Lets the pictures of files wait. Throws `Error` for a file that is none. */
export async function add(files) {
  waiting.push(...await Promise.all([...files].map(urlOf)));
  showWaiting();
}

/** Small pictures; with `remove`, which gets its number, each has a button. */
export const thumbnails = (urls, remove) => urls.map((src, i) => el("span", {},
  el("img", { src, alt: `Picture ${i + 1}` }),
  ...(remove ? [iconButton("close", `Remove picture ${i + 1}`, () => remove(i))] : [])));

/** The content of a message in a request. */
export const contentOf = (text, urls) => urls.length
  ? [...urls.map((url) => ({ type: "image_url", image_url: { url } })), { type: "text", text }] : text;

async function urlOf(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`“${file.name}” is no picture that this browser can read.`);
  });
  const isFit = READ.test(file.type) && file.size <= MOST_BYTES;
  const blob = isFit ? file : await smaller(bitmap);
  bitmap.close();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function smaller(bitmap) {
  const scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // what shines through is white, as it is in the server
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}
