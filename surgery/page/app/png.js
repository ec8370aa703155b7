// Reads PNG files of 8 bits per sample (PNG specification, third edition, W3C 2025): the pixels as codes, the palette
// and the text `surgery`. The browser inflates; lines of every filter are read.
"use strict";

/**
 * @typedef {{width: number, height: number, samples: number, pixels: Uint8Array, palette: Uint8Array|null, note: Object}} Png
 */

/** The bytes of a base64 text. @returns {Uint8Array} */
function bytesOfBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** Decode a PNG file. @param {Uint8Array} bytes @returns {Promise<Png>} */
async function decodePng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== 0x89504e47) throw new Error("this is not a PNG file");
  const data = [];
  let header = null;
  let palette = null;
  let note = {};
  for (let at = 8; at < bytes.length; ) {
    const size = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + size);
    if (kind === "IHDR") header = readHeader(view, at + 8);
    else if (kind === "PLTE") palette = content.slice();
    else if (kind === "iTXt") note = (await readNote(content)) ?? note;
    else if (kind === "IDAT") data.push(content);
    else if (kind === "IEND") break;
    at += 12 + size;
  }
  if (!header || !data.length) throw new Error("this PNG file is cut short");
  const lines = await inflate(new Blob(data));
  return { ...header, pixels: unfilter(lines, header), palette, note };
}

function readHeader(view, at) {
  const [depth, color, , , interlace] = [8, 9, 10, 11, 12].map((offset) => view.getUint8(at + offset));
  const samples = { 0: 1, 2: 3, 3: 1, 6: 4 }[color];
  if (depth !== 8 || !samples || interlace) throw new Error("only PNG files of 8 bits that are not interlaced are read");
  return { width: view.getUint32(at), height: view.getUint32(at + 4), samples };
}

/** The JSON of an iTXt chunk with the keyword `surgery`, or null. */
async function readNote(content) {
  const end = content.indexOf(0);
  if (new TextDecoder("latin1").decode(content.subarray(0, end)) !== "surgery") return null;
  const isCompressed = content[end + 1] === 1;
  const start = content.indexOf(0, content.indexOf(0, end + 3) + 1) + 1;
  const text = content.subarray(start);
  return JSON.parse(new TextDecoder().decode(isCompressed ? await inflate(new Blob([text])) : text));
}

/** Inflate a zlib stream. @returns {Promise<Uint8Array>} */
async function inflate(blob) {
  const stream = blob.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Undo the filters of the lines (section 9 of the specification). @returns {Uint8Array} */
function unfilter(lines, { width, height, samples }) {
  const stride = width * samples;
  if (lines.length < (stride + 1) * height) throw new Error("this PNG file is cut short");
  const pixels = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const filter = lines[y * (stride + 1)];
    const line = lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
    const out = pixels.subarray(y * stride, (y + 1) * stride);
    out.set(line);
    if (filter === 0) continue;
    const above = y ? pixels.subarray((y - 1) * stride, y * stride) : new Uint8Array(stride);
    for (let x = 0; x < stride; x += 1) {
      const left = x >= samples ? out[x - samples] : 0;
      const corner = x >= samples ? above[x - samples] : 0;
      out[x] += predicted(filter, left, above[x], corner);
    }
  }
  return pixels;
}

function predicted(filter, left, above, corner) {
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const estimate = left + above - corner;
  const [a, b, c] = [Math.abs(estimate - left), Math.abs(estimate - above), Math.abs(estimate - corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}
