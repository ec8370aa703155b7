// Histogram and scale bar of a channel in one picture: how often each value occurs, in the colors of the scale.
"use strict";

const HISTOGRAM_BINS = 126;

/** A figure with histogram, scale bar, numbers at its ends and a mark for the value under the pointer. */
function makeHistogram() {
  const canvas = element("canvas", { class: "histogram-bars", width: 2 * HISTOGRAM_BINS, height: 144 });
  const bar = element("div", { class: "scale-bar" });
  const mark = element("div", { class: "scale-mark", hidden: true });
  const ends = element("div", { class: "scale-ends" });
  const note = element("figcaption", { class: "muted" });
  const figure = element("figure", { class: "histogram", role: "img", title: "The height of a bar is the square root of its count" }, element("div", { class: "histogram-plot" }, canvas, bar, mark), ends, note);
  return { figure, canvas, bar, mark, ends, note, range: [0, 1] };
}

/** Draw the histogram of a channel; `limits` are the ends of its scale of colors. */
function drawHistogram(view, activation, channel, limits, colors) {
  const [low, high] = [activation.low[channel], activation.high[channel]];
  view.range = [low, high];
  const { histogram, mean, deviation } = activation.summary(channel);
  drawBars(view.canvas, activation, channel, histogram, limits, colors);
  const stops = Array.from({ length: 33 }, (_, i) => colorAt(low + (i / 32) * (high - low), limits, colors, activation.isColor));
  view.bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  const zeroAt = (100 * -low) / (high - low);
  const isZeroApart = zeroAt > 28 && zeroAt < 75; // elsewhere it would lie on the numbers at the ends
  const zero = isZeroApart ? [element("span", { class: "scale-zero", text: "0", style: { left: `${zeroAt}%` } })] : [];
  view.ends.replaceChildren(element("span", { text: formatNumber(low) }), ...zero, element("span", { text: formatNumber(high) }));
  const specials = [NAN, MINUS_INFINITY, PLUS_INFINITY].filter((code) => histogram[code] && !activation.isColor);
  const unusual = specials.map((code) => `${count(histogram[code], "value")} ${SPECIAL_NAMES[code]}`);
  view.note.textContent = [`mean ${formatNumber(mean)}`, `deviation ${formatNumber(deviation)}`, ...unusual].join("  ·  ");
  const scale = limits[0] !== low || limits[1] !== high ? `, colors from ${formatNumber(limits[0])} to ${formatNumber(limits[1])}` : "";
  view.figure.setAttribute("aria-label", `Histogram from ${formatNumber(low)} to ${formatNumber(high)}${scale}; ${view.note.textContent}`);
}

function drawBars(canvas, activation, channel, histogram, limits, colors) {
  const bins = new Float64Array(HISTOGRAM_BINS);
  for (let code = 0; code <= activation.levels; code += 1) {
    bins[Math.floor((code / activation.levels) * (HISTOGRAM_BINS - 1) + 0.5)] += histogram[code];
  }
  const most = bins.reduce((a, b) => Math.max(a, b), 1);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const [low, high] = [activation.low[channel], activation.high[channel]];
  bins.forEach((number, bin) => {
    if (!number) return;
    const height = Math.max(2, Math.sqrt(number / most) * (canvas.height - 4));
    context.fillStyle = colorAt(low + (bin / (HISTOGRAM_BINS - 1)) * (high - low), limits, colors, activation.isColor);
    context.fillRect(2 * bin, canvas.height - height, 2, height);
  });
}

/** The color of a value on the scale, in CSS. */
function colorAt(value, [low, high], colors, isColor) {
  const level = high > low ? clamp(Math.round(((value - low) / (high - low)) * LEVELS), 0, LEVELS) : LEVELS / 2;
  return isColor ? `rgb(${level} ${level} ${level})` : cssColor(colors[level]);
}

/** Mark a value in the histogram, or none. */
function markHistogram(view, value) {
  const [low, high] = view.range;
  view.mark.hidden = !Number.isFinite(value) || !(high > low);
  if (!view.mark.hidden) view.mark.style.left = `${100 * clamp((value - low) / (high - low), 0, 1)}%`;
}
