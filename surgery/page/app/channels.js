// The middle: all channels of the chosen operation, sized to the window, in an order that the user chooses.
"use strict";

const CELL_GAP = 8;
const CAPTION_HEIGHT = 18;

/** What is shown in the middle. `message` says why there is nothing. */
const shown = {
  /** @type {Activation|Difference|null} */ activation: null,
  /** @type {Activation[]} */ pool: [],
  /** @type {number[]} */ order: [],
  message: "",
  request: 0,
};

const channelsView = {
  cell: 0,
  columns: 1,
  pitch: 1,
  /** @type {number|null} */ hovered: null,
};

function startChannels() {
  const pane = byId("channels");
  channelsView.canvas = element("div", { class: "cells", role: "list" });
  channelsView.message = element("p", { class: "message", role: "status" });
  pane.append(channelsView.message, channelsView.canvas);
  pane.addEventListener("scroll", awaitCells, { passive: true });
  new ResizeObserver(() => placeCells()).observe(pane);
  onChange((changed) => {
    const isOther = state.view === "difference" && hasChanged(changed, "otherRun", "otherImage");
    if (hasChanged(changed, "run", "image", "operation", "view", "scale") || isOther) loadShown();
    else if (hasChanged(changed, "colormap", "isReversed", "clip", "aroundZero")) paintAllCells();
    const isMarked = state.sort === "mark" && changed.has("place");
    if (hasChanged(changed, "sort", "descending", "measuresLoaded") || isMarked) sortChannels();
    if (changed.has("cell")) placeCells();
    if (changed.has("channel")) markChosenCell(true);
    const isFitted = changed.has("cell") && !state.cell; // otherwise the slider, which may be held, has the size
    if (isFitted || hasChanged(changed, "run", "operation", "shown", "sort", "descending", "place", "measuresLoaded")) drawHead();
    if (hasChanged(changed, "pointer", "place", "channel", "shown")) drawReadout();
    if (hasChanged(changed, "pointer", "place")) markPlace(channelsView.canvas);
  });
}

/** Load what is chosen. Of several requests the last one counts. */
async function loadShown() {
  const request = (shown.request += 1);
  const [run, image, operation] = [currentRun(), currentImage(), currentOperation()];
  let [activation, pool, message] = [null, [], ""];
  if (image) needMeasures(run, image);
  byId("channels-pane").setAttribute("aria-busy", "true");
  try {
    if (!image) throw new UnreadablePicture("this run has no image");
    if (!operation) throw new UnreadablePicture(`${run.label} has no operation ${state.operation}`);
    activation = await loadActivation(run, image, operation);
    if (state.view === "difference") activation = new Difference(activation, await loadOther());
    pool = await scalePool(activation, run, image, operation);
  } catch (error) {
    if (!(error instanceof UnreadablePicture)) throw error;
    message = error.message;
    activation = null;
  }
  if (request !== shown.request) return;
  Object.assign(shown, { activation, pool, message });
  if (message) byId("channels-pane").removeAttribute("aria-busy");
  if (activation && state.channel !== null && state.channel >= activation.channels) update({ channel: activation.channels - 1 });
  update({ shown: request });
  sortChannels();
}

/** The activation that is subtracted in the view `difference`. */
function loadOther() {
  const run = surgeryPage.runs[state.otherRun];
  if (run !== currentRun()) return loadOfRun(run, currentImage().name, state.operation);
  if (!run.images[state.otherImage]) throw new UnreadablePicture("this run has no other image");
  return loadActivation(run, run.images[state.otherImage], currentOperation());
}

/** The orders of the channels of any operation. */
const SORT_CHOICES = [
  ["number", "sort: number"],
  ["contrast", "sort: contrast"],
  ["range", "sort: range"],
  ["mean", "sort: mean"],
  ["mark", "sort: value at the mark"],
];

/** The orders of channels: what each sorts by. @returns {[string, string, boolean?][]} */
function sortChoices() {
  const channels = shown.activation?.channels ?? 0;
  const measures = measureNames().filter((name) => measureNumbers(name, state.operation)?.length === channels && channels > 1);
  return [
    ...SORT_CHOICES.map(([name, text]) => (name === "mark" && !state.place ? [name, `${text} (mark a place first)`, true] : [name, text])),
    ...measures.map((name) => [`measure:${name}`, `sort: ${name}`]),
  ];
}

/** The number by which a channel is sorted. */
function sortNumber(channel) {
  const { activation } = shown;
  if (state.sort.startsWith("measure:")) return measureNumbers(state.sort.slice(8), state.operation)?.[channel] ?? Number.NaN;
  if (state.sort === "number") return channel;
  if (state.sort === "range") return activation.high[channel] - activation.low[channel];
  const { mean, deviation } = activation.summary(channel);
  if (state.sort === "contrast") return deviation;
  if (state.sort === "mean") return mean;
  if (!state.place) return Number.NaN;
  return (readAt(activation, channel, state.place).value - mean) / (deviation || 1);
}

function sortChannels() {
  const { activation } = shown;
  shown.order = Array.from({ length: activation?.channels ?? 0 }, (_, channel) => channel);
  if (activation && !activation.isColor && (state.sort !== "number" || state.descending)) {
    const numbers = shown.order.map(sortNumber);
    const sign = state.descending ? -1 : 1;
    const known = (number) => (Number.isNaN(number) ? 1 : 0);
    shown.order.sort((a, b) => known(numbers[a]) - known(numbers[b]) || sign * (numbers[a] - numbers[b]) || a - b);
  }
  placeCells();
}

/** Choose the size of a cell, and draw those in view. */
function placeCells() {
  const pane = byId("channels");
  const { activation, order, message } = shown;
  channelsView.message.textContent = message;
  channelsView.message.hidden = !message;
  showWholePicture();
  clearCells();
  if (!activation || !pane.clientWidth) {
    setStyle(channelsView.canvas, { height: "0px" });
    byId("channels-pane").removeAttribute("aria-busy");
    return;
  }
  const aspect = activation.height / activation.width;
  const width = pane.clientWidth - 2 * CELL_GAP - 8;
  channelsView.cell = state.cell || fittingCell(order.length, width, pane.clientHeight - 2 * CELL_GAP, aspect);
  channelsView.cell = Math.min(channelsView.cell, width);
  channelsView.columns = Math.max(1, Math.floor((width + CELL_GAP) / (channelsView.cell + CELL_GAP)));
  channelsView.pitch = Math.round(channelsView.cell * aspect) + CAPTION_HEIGHT + CELL_GAP;
  const rows = Math.ceil(order.length / channelsView.columns);
  setStyle(channelsView.canvas, { height: `${rows * channelsView.pitch + CELL_GAP}px` });
  drawCells();
}

/** The largest cell with which all channels are in view; at least 72 pixels, and fewer for more than fit. */
function fittingCell(channels, width, height, aspect) {
  let best = 0;
  for (let columns = 1; columns <= channels; columns += 1) {
    const byWidth = Math.floor((width + CELL_GAP) / columns) - CELL_GAP;
    const byHeight = Math.floor((height / Math.ceil(channels / columns) - CAPTION_HEIGHT - CELL_GAP) / aspect);
    best = Math.max(best, Math.min(byWidth, byHeight));
    if (byWidth < best) break;
  }
  if (best >= 72) return best;
  const columns = Math.max(1, Math.floor((width + CELL_GAP) / (96 + CELL_GAP)));
  return Math.floor((width + CELL_GAP) / Math.min(columns, Math.max(channels, 2))) - CELL_GAP;
}

/** Mark the chosen cell, and bring it into view. */
function markChosenCell(isScrolled) {
  for (const cell of cellsView.cells.values()) cell.classList.toggle("is-chosen", Number(cell.dataset.channel) === state.channel);
  const place = shown.order.indexOf(state.channel);
  if (!isScrolled || place < 0) return;
  const pane = byId("channels");
  const top = CELL_GAP + Math.floor(place / channelsView.columns) * channelsView.pitch;
  if (top < pane.scrollTop) pane.scrollTop = top - CELL_GAP;
  else if (top + channelsView.pitch > pane.scrollTop + pane.clientHeight) pane.scrollTop = top + channelsView.pitch - pane.clientHeight;
}

/** The picture as it is, where its maps can't be told apart. */
function showWholePicture() {
  const pane = byId("channels");
  pane.querySelector(".whole")?.remove();
  const [image, operation] = [currentImage(), currentOperation()];
  const [name] = image && operation && shown.message ? pictureNames(operation, image) : [];
  if (!name || shown.message.includes("missing") || state.view === "difference") return;
  pane.append(element("img", { class: "whole", src: addressOf(currentRun(), pictureFolder(image, name), `${name}.png`), alt: `the picture of ${operation.path}` }));
}

/** Name, facts and tools above the channels. */
function drawHead() {
  const operation = currentOperation();
  const { activation } = shown;
  const isPlain = !activation || activation.isColor;
  const facts = operation ? [operation.kind, formatShape(operation.shape)] : [];
  const direction = state.descending ? "largest first" : "smallest first";
  const parts = [
    element(
      "div",
      { class: "operation-name" },
      element("h1", { text: operation?.path ?? state.operation, title: operation?.target ?? null }),
      element("span", { class: "muted", title: operation?.dtype ?? null, text: facts.filter(Boolean).join("  ·  ") }),
    ),
    isPlain
      ? null
      : element(
          "div",
          { class: "tools" },
          selectBox("Sort channels by", sortChoices(), state.sort, (sort) => update({ sort, descending: sort !== "number" })),
          iconButton(state.descending ? "down" : "up", `Order: ${direction}; reverse it`, () => update({ descending: !state.descending })),
          cellSlider(),
        ),
  ];
  replaceContent(byId("operation-head"), ...parts.filter(Boolean));
}

function cellSlider() {
  const slider = element("input", {
    type: "range",
    min: 40,
    max: 400,
    step: 4,
    value: state.cell || channelsView.cell || 96,
    "aria-label": "Size of a channel",
    title: "Size of a channel; double-click: fit the window",
    oninput: () => update({ cell: Number(slider.value) }),
    ondblclick: () => update({ cell: 0 }),
  });
  return slider;
}
