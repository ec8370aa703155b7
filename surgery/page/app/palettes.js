// Colors of codes. A palette is 251 packed colors for values from low to high, and those of the codes above 250.
"use strict";

/** @typedef {{colors: Uint32Array, special: Uint32Array}} Palette */

const SPECIAL_COLORS = { [INK]: 0xff808080, [NAN]: 0xffb469ff, [MINUS_INFINITY]: 0xffff5a1e, [PLUS_INFINITY]: 0xffffe600 };

/** @type {Map<string, Uint32Array>} */
const colorTables = new Map();

function packColor(red, green, blue) {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The packed color as CSS writes it. */
function cssColor(packed) {
  return `rgb(${packed & 255} ${(packed >> 8) & 255} ${(packed >> 16) & 255})`;
}

/** 251 colors of a colormap of the page. @returns {Uint32Array} */
function colormapColors(name) {
  let table = colorTables.get(name);
  if (!table) {
    const [, stops] = surgeryPage.colormapTable[name] ?? ["", "000000ffffff"];
    table = interpolateStops(stops);
    colorTables.set(name, table);
  }
  return table;
}

function interpolateStops(hex) {
  const stops = (hex.match(/[0-9a-f]{6}/gi) ?? []).map((each) => [0, 2, 4].map((at) => parseInt(each.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: LEVELS + 1 }, (_, level) => {
    const place = (level / LEVELS) * (stops.length - 1);
    const first = Math.min(Math.floor(place), stops.length - 2);
    const mixed = [0, 1, 2].map((i) => Math.round(stops[first][i] + (place - first) * (stops[first + 1][i] - stops[first][i])));
    return packColor(...mixed);
  });
}

/** The colors of a PNG's own palette. @returns {Uint32Array} */
function drawnColors(bytes) {
  return Uint32Array.from({ length: LEVELS + 1 }, (_, code) => packColor(...bytes.subarray(3 * code, 3 * code + 3)));
}

/** The diverging colormap for differences: the chosen one, or one with blue for negative and red for positive. */
function differenceColormap() {
  return surgeryPage.colormapTable[state.colormap]?.[0] === "diverging" ? state.colormap : "balance";
}

/** The colors in which an activation is shown now. @returns {Uint32Array} */
function colorsFor(activation) {
  const colors = chosenColors(activation);
  return state.isReversed ? Uint32Array.from(colors).reverse() : colors;
}

function chosenColors(activation) {
  if (activation.isDifference) return colormapColors(differenceColormap());
  if (state.colormap !== "drawn") return colormapColors(state.colormap);
  return activation.palette ? drawnColors(activation.palette) : colormapColors("gray");
}

/** The color of each of the 256 codes of a channel, for limits [low, high] of the scale. @returns {Uint32Array} */
function colorsOfCodes(activation, channel, [low, high], colors) {
  const table = new Uint32Array(256);
  const span = high - low;
  for (let code = 0; code <= LEVELS; code += 1) {
    const value = activation.readCode(channel, code).value;
    const level = span > 0 ? Math.round(((value - low) / span) * LEVELS) : LEVELS / 2;
    table[code] = colors[clamp(level, 0, LEVELS)];
  }
  for (const [code, color] of Object.entries(SPECIAL_COLORS)) {
    table[code] = activation.palette ? packColor(...activation.palette.subarray(3 * code, 3 * code + 3)) : color;
  }
  table[BACKGROUND] = 0;
  return table;
}

/** Draw a map into a canvas of the map's own size. */
function paintMap(canvas, activation, channel, limits, colors) {
  const { width, height } = activation;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  if (activation.isColor) {
    const [red, green, blue] = [0, 1, 2].map((plane) => activation.codes(plane));
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = packColor(red[i], green[i], blue[i]);
  } else {
    const table = colorsOfCodes(activation, channel, limits, colors);
    const codes = activation.codes(channel);
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = table[codes[i]];
  }
  context.putImageData(image, 0, 0);
}

/** A CSS gradient of some colors, from left to right. */
function gradientOf(colors) {
  const stops = Array.from({ length: 17 }, (_, i) => cssColor(colors[Math.round((i / 16) * LEVELS)]));
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}
