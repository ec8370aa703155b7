// The difference of two activations of the same size, with the interface of an activation. The values under the pointer
// come from both operands; the codes are only for drawing.
"use strict";

class Difference {
  /** @param {Activation} minuend @param {Activation} subtrahend */
  constructor(minuend, subtrahend) {
    if (minuend.height !== subtrahend.height || minuend.width !== subtrahend.width) {
      const [a, b] = [minuend, subtrahend].map((each) => `${each.height}×${each.width}`);
      throw new UnreadablePicture(`maps of ${a} and of ${b} have no difference`);
    }
    if (minuend.isColor !== subtrahend.isColor) throw new UnreadablePicture("one is a color picture, the other is not");
    [this.minuend, this.subtrahend] = [minuend, subtrahend];
    [this.height, this.width] = [minuend.height, minuend.width];
    this.levels = LEVELS;
    this.isColor = false;
    this.isDifference = true;
    this.isVector = minuend.isVector;
    this.channels = minuend.isColor ? 3 : Math.min(minuend.channels, subtrahend.channels);
    this.palette = null;
    this.note = minuend.note;
    this.planes = [];
    this.summaries = [];
    this.low = [];
    this.high = [];
    for (let channel = 0; channel < this.channels; channel += 1) this.#setLimits(channel);
  }

  #setLimits(channel) {
    const values = this.#values(channel);
    let most = 0;
    for (const value of values) if (Math.abs(value) > most) most = Math.abs(value);
    [this.low[channel], this.high[channel]] = [-most, most];
    this.planes[channel] = Uint8Array.from(values, (value) =>
      Number.isNaN(value) ? NAN : most ? Math.round((value / most / 2 + 0.5) * LEVELS) : LEVELS / 2,
    );
  }

  /** @returns {Float32Array} differences, NaN where either value is not finite */
  #values(channel) {
    const [plus, minus] = [this.minuend, this.subtrahend].map((each) => valueTable(each, channel));
    const [a, b] = [this.minuend.codes(channel), this.subtrahend.codes(channel)];
    return Float32Array.from(a, (code, i) => plus[code] - minus[b[i]]);
  }

  get size() {
    return this.channels * this.width * this.height;
  }

  codes(channel) {
    return this.planes[channel];
  }

  /** @returns {Reading} the difference of both values; its error is the sum of theirs */
  read(channel, x, y) {
    const [plus, minus] = [this.minuend, this.subtrahend].map((each) => each.read(channel, x, y));
    const special = plus.special ?? minus.special;
    const value = special ? Number.NaN : plus.value - minus.value;
    return { code: this.planes[channel][y * this.width + x], value, error: plus.error + minus.error, special };
  }

  readCode(channel, code) {
    return Activation.prototype.readCode.call(this, channel, code);
  }

  summary(channel) {
    return (this.summaries[channel] ??= summarize(this, channel));
  }
}

/** The value of each of the 256 codes of a channel; NaN for those that stand for no finite value. */
function valueTable(activation, channel) {
  const table = new Float64Array(256).fill(Number.NaN);
  for (let code = 0; code <= activation.levels; code += 1) table[code] = activation.readCode(channel, code).value;
  return table;
}
