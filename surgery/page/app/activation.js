// One activation as the page holds it: the codes of its maps, their limits, and the values that they stand for.
// A code from 0 to 250 is low + code / 250 * (high - low), exact to half a level.
"use strict";

const LEVELS = 250;
const [INK, NAN, MINUS_INFINITY, PLUS_INFINITY, BACKGROUND] = [251, 252, 253, 254, 255];

/** What the codes above 250 say. */
const SPECIAL_NAMES = { 251: "ink", 252: "NaN", 253: "−∞", 254: "∞", 255: "outside of the map" };

/**
 * @typedef {{code: number, value: number, error: number, special: string|null}} Reading
 */

/** The maps of one operation for one image, read from its pictures. */
class Activation {
  /** @param {Png[]} pngs @param {OperationEntry} operation */
  constructor(pngs, operation) {
    this.note = pngs[0].note;
    this.isColor = pngs[0].samples >= 3;
    this.levels = this.isColor ? 255 : LEVELS;
    this.palette = pngs[0].palette;
    this.pngs = pngs;
    /** @type {{png: Png, tile: number}[]} */ this.places = [];
    /** @type {number[]} */ this.low = [];
    /** @type {number[]} */ this.high = [];
    if (this.isColor) this.#readColor();
    else this.#readTiles(operation);
    this.channels = this.isColor ? 1 : this.places.length;
    /** @type {Uint8Array[]} */ this.planes = [];
    /** @type {Object[]} */ this.summaries = [];
    this.isVector = this.note.layout === "vector";
  }

  #readColor() {
    const [png] = this.pngs;
    [this.height, this.width] = [png.height, png.width];
    const limit = (list, channel, otherwise) => list?.[channel] ?? list?.[0] ?? otherwise;
    for (let channel = 0; channel < 3; channel += 1) {
      this.low.push(limit(this.note.low, channel, 0));
      this.high.push(limit(this.note.high, channel, 255));
    }
  }

  #readTiles(operation) {
    for (const png of this.pngs) {
      const { low = [], high = [] } = png.note;
      const tiles = tilesOf(png, low.length, operation);
      if (!tiles) throw new UnreadablePicture("the page can't tell where the maps lie in this tiler's pictures");
      [this.height, this.width] = [tiles.height, tiles.width];
      for (let tile = 0; tile < Math.min(tiles.maps, low.length); tile += 1) {
        const { y } = tileOrigin(tiles, tile);
        if (y + tiles.height * tiles.factor > png.height) break; // the tiler drew only the first channels
        this.places.push({ png, tiles, tile });
        this.low.push(low[tile] ?? Number.NaN);
        this.high.push(high[tile] ?? Number.NaN);
      }
    }
  }

  /** The bytes that this activation holds. */
  get size() {
    return 2 * this.pngs.reduce((sum, png) => sum + png.pixels.length, 0);
  }

  /** The codes of a map, row by row; of a color picture, those of red, green or blue. @returns {Uint8Array} */
  codes(channel) {
    return (this.planes[channel] ??= this.isColor ? this.#colorPlane(channel) : this.#cutTile(channel));
  }

  #colorPlane(channel) {
    const { pixels, samples } = this.pngs[0];
    const plane = new Uint8Array(this.width * this.height);
    for (let i = 0; i < plane.length; i += 1) plane[i] = pixels[i * samples + channel];
    return plane;
  }

  #cutTile(channel) {
    const { png, tiles, tile } = this.places[channel];
    const { x: left, y: top } = tileOrigin(tiles, tile);
    const { height, width, factor } = tiles;
    const codes = new Uint8Array(width * height);
    for (let y = 0; y < height; y += 1) {
      const start = (top + y * factor) * png.width + left;
      if (factor === 1) codes.set(png.pixels.subarray(start, start + width), y * width);
      else for (let x = 0; x < width; x += 1) codes[y * width + x] = png.pixels[start + x * factor];
    }
    return codes;
  }

  /** The value at a position of a map. @returns {Reading} */
  read(channel, x, y) {
    return this.readCode(channel, this.codes(channel)[y * this.width + x]);
  }

  /** The value that a code of a channel stands for. @returns {Reading} */
  readCode(channel, code) {
    if (code > this.levels) return { code, value: specialValue(code), error: 0, special: SPECIAL_NAMES[code] };
    const span = this.high[channel] - this.low[channel];
    return { code, value: this.low[channel] + (code / this.levels) * span, error: span / this.levels / 2, special: null };
  }

  /** What the codes of a map say of it: histogram, mean and standard deviation in values. */
  summary(channel) {
    return (this.summaries[channel] ??= summarize(this, channel));
  }
}

/** Raised for pictures that have to be shown as they are. */
class UnreadablePicture extends Error {}

function specialValue(code) {
  return { [NAN]: Number.NaN, [MINUS_INFINITY]: -Infinity, [PLUS_INFINITY]: Infinity }[code] ?? Number.NaN;
}

/** @returns {{histogram: Uint32Array, count: number, mean: number, deviation: number, range: number}} */
function summarize(activation, channel) {
  const histogram = new Uint32Array(256);
  for (const code of activation.codes(channel)) histogram[code] += 1;
  let [number, sum, squares, first, last] = [0, 0, 0, -1, 0];
  for (let code = 0; code <= activation.levels; code += 1) {
    if (!histogram[code]) continue;
    if (first < 0) first = code;
    last = code;
    number += histogram[code];
    sum += histogram[code] * code;
    squares += histogram[code] * code * code;
  }
  const step = (activation.high[channel] - activation.low[channel]) / activation.levels;
  const mean = sum / number;
  return {
    histogram,
    count: number,
    mean: activation.low[channel] + mean * step,
    deviation: Math.sqrt(Math.max(0, squares / number - mean * mean)) * step,
    range: first < 0 ? 0 : (last - first) * step,
  };
}
