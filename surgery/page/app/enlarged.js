// One channel enlarged: alone, for several images or runs side by side, or as a difference with both operands; with the
// value under the pointer, histogram and scale bar.
"use strict";

const MAX_PANELS = 12;

/**
 * @typedef {{caption: string, activation: Activation|Difference, canvas: HTMLCanvasElement, marker: HTMLElement,
 *   reading: HTMLElement, stage: HTMLElement, figure: HTMLElement}} Panel
 */

const enlargedView = {
  /** @type {Panel[]} */ panels: [],
  request: 0,
};

function startEnlarged() {
  enlargedView.stage = element("div", { class: "panels" });
  enlargedView.title = element("h2", { class: "channel-title" });
  enlargedView.value = element("output", { id: "value", class: "value" });
  enlargedView.where = element("div", { class: "muted where" });
  enlargedView.histogram = makeHistogram();
  enlargedView.strip = element("div", { id: "same-place", "aria-label": "The same place in the operations before and after" });
  enlargedView.extremes = element(
    "div",
    { class: "channel-line" },
    button("maximum", "Mark the largest value of this channel (M)", () => markExtreme(1), { class: "quiet" }),
    button("minimum", "Mark the smallest value of this channel (N)", () => markExtreme(-1), { class: "quiet" }),
    button("unmark", "Remove the mark", () => update({ place: null }), { class: "quiet" }),
  );
  const side = element(
    "div",
    { class: "channel-facts" },
    element(
      "div",
      { class: "channel-line" },
      iconButton("previous", "Previous channel (←)", () => stepChannel(-1)),
      enlargedView.title,
      iconButton("next", "Next channel (→)", () => stepChannel(1)),
      iconButton("close", "All channels (Esc)", () => update({ channel: null }), { class: "close" }),
    ),
    enlargedView.value,
    enlargedView.where,
    enlargedView.histogram.figure,
    enlargedView.extremes,
  );
  byId("enlarged").append(enlargedView.stage, side, enlargedView.strip);
  new ResizeObserver(() => sizePanels()).observe(enlargedView.stage);
  onChange((changed) => {
    if (changed.has("view") && ["images", "runs", "difference"].includes(state.view) && state.channel === null) update({ channel: 0 });
    if (hasChanged(changed, "shown", "channel", "view")) showEnlarged();
    else if (hasChanged(changed, "colormap", "isReversed", "clip", "aroundZero")) repaintEnlarged();
    if (hasChanged(changed, "pointer", "place")) readPanels();
  });
}

/** Show or hide the enlarged channel. */
async function showEnlarged() {
  const isOpen = state.channel !== null && shown.activation !== null;
  const wasOpen = !byId("enlarged").hidden;
  byId("enlarged").hidden = !isOpen;
  if (isOpen !== wasOpen) placeCells();
  if (!isOpen) return;
  const request = (enlargedView.request += 1);
  const found = await findPanels();
  if (request !== enlargedView.request) return;
  enlargedView.panels = found.map(makePanel);
  enlargedView.stage.replaceChildren(...enlargedView.panels.map((panel) => panel.figure));
  enlargedView.stage.dataset.panels = found.length;
  sizePanels();
  paintPanels();
  if (!wasOpen) markChosenCell(true);
  showSamePlace();
}

/** The activations that are shown beside each other, with captions. @returns {Promise<{caption: string, activation: Activation}[]>} */
async function findPanels() {
  const own = { caption: "", activation: shown.activation };
  const [run, image, operation] = [currentRun(), currentImage(), currentOperation()];
  if (state.view === "difference") {
    const { minuend, subtrahend } = shown.activation;
    if (!minuend) return [own];
    const other = surgeryPage.runs[state.otherRun];
    const names = other === run ? [image.name, run.images[state.otherImage].name] : [run.label, other.label];
    return [
      { caption: names[0], activation: minuend },
      { caption: `− ${names[1]}`, activation: subtrahend },
      { caption: "= difference", activation: shown.activation },
    ];
  }
  if (state.view === "single") return [own];
  const several =
    state.view === "images"
      ? around(run.images, state.image).map((each) => [each.name, loadActivation(run, each, operation)])
      : around(surgeryPage.runs, state.run).map((each) => [each.label, loadOfRun(each, image.name, operation.path)]);
  const loaded = await Promise.allSettled(several.map(([, promise]) => promise));
  return loaded.flatMap((result, i) => (result.status === "fulfilled" ? [{ caption: several[i][0], activation: result.value }] : []));
}

/** At most 12 of a list, among them the one at `position`. */
function around(list, position) {
  const start = clamp(position - Math.floor(MAX_PANELS / 2), 0, Math.max(0, list.length - MAX_PANELS));
  return list.slice(start, start + MAX_PANELS);
}

/** @returns {Panel} */
function makePanel({ caption, activation }) {
  const canvas = element("canvas", { class: "map", "aria-label": `channel ${state.channel} ${caption}`, role: "img" });
  const marker = element("div", { class: "marker", hidden: true });
  const reading = element("span", { class: "panel-reading" });
  const stage = element(
    "div",
    {
      class: "map-stage",
      onpointermove: (event) => update({ pointer: placeOf(event, canvas) }),
      onpointerdown: (event) => event.button === 0 && pin(placeOf(event, canvas)),
      onpointerleave: () => update({ pointer: null }),
    },
    canvas,
    marker,
  );
  const isCurrent = activation === shown.activation;
  const figure = element("figure", { class: `panel${isCurrent ? " is-current" : ""}` }, stage, element("figcaption", {}, element("span", { text: caption }), reading));
  return { caption, activation, canvas, marker, reading, stage, figure };
}

/** Set the mark, or remove it where it is. */
function pin(place) {
  const isSame = state.place && pixelOf(shown.activation, place).join() === pixelOf(shown.activation, state.place).join();
  update({ place: isSame ? null : place });
}

/** Size the panels to the room: whole factors where a map is enlarged. */
function sizePanels() {
  const { stage, panels } = enlargedView;
  if (!panels.length || !stage.clientWidth) return;
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  const aspect = panels[0].activation.width / panels[0].activation.height;
  const caption = panels.length < 2 ? 0 : panels[0].figure.lastChild.offsetHeight + 2;
  let [best, side] = [1, 0];
  for (let columns = 1; columns <= panels.length; columns += 1) {
    const rows = Math.ceil(panels.length / columns);
    const room = Math.min((width - 10 * (columns - 1)) / columns, ((height - 8 * (rows - 1)) / rows - caption) * aspect);
    if (room > side) [best, side] = [columns, room];
  }
  stage.style.setProperty("--columns", best);
  for (const { activation, stage: frame, canvas } of panels) {
    const zoom = side / activation.width;
    const used = zoom >= 3 ? Math.floor(zoom) : zoom >= 1 ? Math.floor(2 * zoom) / 2 : Math.max(zoom, 0.05);
    setStyle(frame, { width: `${Math.floor(activation.width * used)}px`, height: `${Math.floor(activation.height * used)}px` });
    canvas.classList.toggle("is-enlarged", used >= 1);
  }
  readPanels();
}

function paintPanels() {
  const channel = state.channel;
  if (channel === null || !shown.activation) return;
  for (const { activation, canvas } of enlargedView.panels) {
    if (channel >= activation.channels) continue;
    paintMap(canvas, activation, channel, panelLimits(activation, channel), colorsFor(activation));
  }
  const { activation } = shown;
  const name = activation.isColor ? "colors" : activation.isVector ? "all elements" : `channel ${channel}`;
  const total = activation.isColor || activation.isVector ? "" : ` of ${activation.channels}`;
  enlargedView.title.replaceChildren(name, element("span", { class: "muted", text: total }));
  drawHistogram(enlargedView.histogram, activation, channel, panelLimits(activation, channel), colorsFor(activation));
  readPanels();
}

/** Paint what is shown in other colors. */
function repaintEnlarged() {
  paintPanels();
  if (state.channel !== null && shown.activation) showSamePlace();
}

function panelLimits(activation, channel) {
  const isPooled = shown.pool.includes(activation);
  return limitsOf(activation, channel, isPooled ? shown.pool : [activation]);
}

/** Go to the channel before or after, in the order that is shown. */
function stepChannel(step) {
  const place = shown.order.indexOf(state.channel);
  const next = state.channel === null ? 0 : clamp(place + step, 0, shown.order.length - 1);
  if (shown.order.length) update({ channel: shown.order[next] });
}

/** Mark the largest (sign 1) or the smallest (sign -1) value of the channel. */
function markExtreme(sign) {
  const { activation } = shown;
  if (!activation || activation.isColor || state.channel === null) return;
  const codes = activation.codes(state.channel);
  let best = -1;
  codes.forEach((code, i) => {
    if (code <= activation.levels && (best < 0 || sign * (code - codes[best]) > 0)) best = i;
  });
  if (best < 0) return;
  const [x, y] = [best % activation.width, Math.floor(best / activation.width)];
  update({ place: [(x + 0.5) / activation.width, (y + 0.5) / activation.height] });
}
