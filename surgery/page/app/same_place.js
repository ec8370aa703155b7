// The same place in other operations: the input, what comes before, what comes after, and the output. A place keeps its
// share of the width and the height.
"use strict";

const PLACE_SIDE = 66;
const samePlaceView = { request: 0, /** @type {Object[]} */ items: [] };

/** Show the operations before and after the chosen one. */
async function showSamePlace() {
  const request = (samePlaceView.request += 1);
  const [run, image] = [currentRun(), currentImage()];
  const operations = operationsAround(run);
  const loaded = await Promise.allSettled(operations.map(({ operation }) => loadActivation(run, image, operation)));
  if (request !== samePlaceView.request || !shown.activation) return;
  const items = loaded.flatMap((result, i) => (result.status === "fulfilled" ? [{ ...operations[i], activation: result.value }] : []));
  const own = shown.activation.minuend ?? shown.activation;
  samePlaceView.items = items.map((item) => makePlaceItem(item, own));
  enlargedView.strip.replaceChildren(...samePlaceView.items.map((item) => item.made));
  readSamePlace(state.pointer ?? state.place);
}

/** Input, operands, the operation's users, output: each once, in order of execution. */
function operationsAround(run) {
  const model = graphModel(run);
  const position = model.positions.get(state.operation);
  if (position === undefined) return [];
  const last = model.operations.length - 1;
  const roles = new Map([[0, "input"]]);
  for (const each of drawnNeighbours(model, position, model.before)) roles.set(each, "before");
  roles.set(position, "here");
  for (const each of drawnNeighbours(model, position, model.after)) roles.set(each, "after");
  if (!roles.has(last)) roles.set(last, "output");
  return [...roles]
    .filter(([each]) => model.operations[each].picture.length)
    .sort(([a], [b]) => a - b)
    .map(([each, role]) => ({ operation: model.operations[each], role }));
}

/** The nearest operations in one direction that were drawn; at most three. */
function drawnNeighbours(model, position, direction) {
  const found = [];
  const seen = new Set([position]);
  for (let front = direction[position]; front.length && found.length < 3; ) {
    const next = [];
    for (const each of front) {
      if (seen.has(each)) continue;
      seen.add(each);
      if (model.operations[each].picture.length) found.push(each);
      else next.push(...direction[each]);
    }
    front = next;
  }
  return found.slice(0, 3);
}

function makePlaceItem(item, own) {
  const { operation, role, activation } = item;
  const channel = role === "here" ? state.channel : relatedChannel(own, state.channel, activation);
  const canvas = element("canvas", { class: activation.width <= PLACE_SIDE ? "is-enlarged" : null });
  paintMap(canvas, activation, channel, ownLimits(activation, channel, 0), colorsFor(activation));
  const zoom = PLACE_SIDE / Math.max(activation.width, activation.height);
  setStyle(canvas, { width: `${activation.width * zoom}px`, height: `${activation.height * zoom}px` });
  const marker = element("span", { class: "dot", hidden: true });
  const value = element("span", { class: "place-value" });
  const name = activation.isColor ? "" : ` ${activation.isVector ? "" : channel}`;
  const made = element(
    "button",
    {
      type: "button",
      class: `place-item${role === "here" ? " is-here" : ""}`,
      title: role === "here" ? operation.path : `${operation.path}, channel ${channel}: show it`,
      dataset: { path: operation.path, channel },
      onclick: () => update({ operation: operation.path, channel }),
    },
    element("span", { class: "place-map" }, canvas, marker),
    element(
      "span",
      { class: "place-text" },
      element("span", { class: "muted", text: role === operation.path ? "" : role }),
      element("span", { class: "place-name", text: operation.path }),
      element("span", { class: "muted", text: activation.isColor || activation.isVector ? "" : `channel${name}` }),
      value,
    ),
  );
  return { ...item, channel, marker, value, made };
}

/** The channel of another activation that holds a channel's values: found by its limits, as a `cat` moves channels. */
function relatedChannel(own, channel, other) {
  if (other.isColor || other.channels === 1) return 0;
  if (other.channels === own.channels) return channel;
  for (let each = 0; each < other.channels; each += 1) {
    if (other.low[each] === own.low[channel] && other.high[each] === own.high[channel]) return each;
  }
  return Math.min(channel, other.channels - 1);
}

/** Show the values at a place, or none. */
function readSamePlace(place) {
  for (const { activation, channel, marker, value } of samePlaceView.items) {
    marker.hidden = place === null;
    value.textContent = "";
    if (!place) continue;
    const [column, row] = pixelOf(activation, place);
    setStyle(marker, {
      left: `${(100 * (column + 0.5)) / activation.width}%`,
      top: `${(100 * (row + 0.5)) / activation.height}%`,
    });
    const reading = readAt(activation, channel, place);
    value.textContent = activation.isColor
      ? [0, 1, 2].map((plane) => formatNumber(readAt(activation, plane, place).value, 2)).join(" ")
      : (reading.special ?? formatNumber(reading.value, 3));
  }
}
