// The cells of the channels: those in view and a row more, reused as the user scrolls, painted a few milliseconds a
// frame.
"use strict";

const PAINT_BUDGET = 8; // milliseconds of a frame

const cellsView = {
  /** Place in the order of the channels -> its cell. @type {Map<number, HTMLElement>} */ cells: new Map(),
  /** Cells that are not in use. @type {HTMLElement[]} */ spare: [],
  /** Cells to paint. @type {HTMLElement[]} */ queue: [],
  isDrawAwaited: false,
  isPaintAwaited: false,
};

/** Take all cells away. */
function clearCells() {
  for (const cell of cellsView.cells.values()) cell.remove();
  cellsView.spare.push(...cellsView.cells.values());
  cellsView.cells.clear();
  cellsView.queue.length = 0;
}

/** Draw the cells in view in the next frame. */
function awaitCells() {
  if (cellsView.isDrawAwaited) return;
  cellsView.isDrawAwaited = true;
  requestAnimationFrame(() => {
    cellsView.isDrawAwaited = false;
    drawCells();
  });
}

/** Draw the cells in view. */
function drawCells() {
  const pane = byId("channels");
  const { pitch, columns } = channelsView;
  if (!shown.activation) return;
  const first = Math.max(0, Math.floor((pane.scrollTop - pitch) / pitch)) * columns;
  const last = Math.ceil((pane.scrollTop + pane.clientHeight + pitch) / pitch) * columns;
  for (const [place, cell] of cellsView.cells) {
    if (place >= first && place < last) continue;
    cellsView.spare.push(cell);
    cellsView.cells.delete(place);
  }
  for (let place = first; place < Math.min(last, shown.order.length); place += 1) {
    if (!cellsView.cells.has(place)) addCell(place);
  }
  for (const cell of cellsView.spare) cell.remove();
  paintCells();
}

/** Show a channel in a spare cell, or in a new one. */
function addCell(place) {
  const cell = cellsView.spare.pop() ?? makeCell();
  fillCell(cell, place);
  cellsView.cells.set(place, cell);
  cellsView.queue.push(cell);
  if (!cell.isConnected) channelsView.canvas.append(cell);
}

function makeCell() {
  const canvas = element("canvas");
  const [name, number] = [element("span"), element("span", { class: "caption-number" })];
  const cell = element(
    "button",
    {
      type: "button",
      role: "listitem",
      onclick: (event) => (event.shiftKey ? pin(placeOf(event, canvas)) : update({ channel: Number(cell.dataset.channel) })),
      onpointermove: (event) => pointInCell(event, Number(cell.dataset.channel)),
      onpointerleave: () => {
        channelsView.hovered = null;
        update({ pointer: null });
      },
    },
    element("span", { class: "cell-map" }, canvas),
    element("span", { class: "caption" }, name, number),
  );
  Object.assign(cell, { canvas, nameText: name, numberText: number });
  return cell;
}

function fillCell(cell, place) {
  const { activation, order } = shown;
  const { cell: side, columns, pitch } = channelsView;
  const channel = order[place];
  const left = CELL_GAP + (place % columns) * (side + CELL_GAP);
  const top = CELL_GAP + Math.floor(place / columns) * pitch;
  cell.className = channel === state.channel ? "cell is-chosen" : "cell";
  cell.dataset.channel = channel;
  cell.setAttribute("aria-label", cellLabel(activation, channel));
  cell.setAttribute("aria-posinset", place + 1);
  cell.setAttribute("aria-setsize", order.length);
  setStyle(cell, { width: `${side}px`, transform: `translate(${left}px, ${top}px)` });
  setStyle(cell.canvas, { width: `${side}px`, height: `${Math.round((side * activation.height) / activation.width)}px` });
  cell.canvas.classList.toggle("is-enlarged", side >= activation.width);
  cell.nameText.textContent = activation.isColor ? "red, green, blue" : activation.isVector ? "all elements" : `${channel}`;
  cell.numberText.textContent = state.sort === "number" || activation.isColor ? "" : formatNumber(sortNumber(channel));
}

function cellLabel(activation, channel) {
  if (activation.isColor) return "picture in colors";
  return `${activation.isVector ? "all elements" : `channel ${channel}`}, ${formatNumber(activation.low[channel])} to ${formatNumber(activation.high[channel])}`;
}

/** Paint waiting cells for a part of this frame, and go on in the next one. */
function paintCells() {
  const start = performance.now();
  const { activation, pool } = shown;
  if (!activation || cellsView.isPaintAwaited) return;
  const colors = colorsFor(activation);
  while (cellsView.queue.length && performance.now() - start < PAINT_BUDGET) {
    const cell = cellsView.queue.shift();
    if (!cell.isConnected) continue;
    const channel = Number(cell.dataset.channel);
    paintMap(cell.canvas, activation, channel, limitsOf(activation, channel, pool), colors);
  }
  if (!cellsView.queue.length) {
    byId("channels-pane").removeAttribute("aria-busy");
    return;
  }
  cellsView.isPaintAwaited = true;
  requestAnimationFrame(() => {
    cellsView.isPaintAwaited = false;
    paintCells();
  });
}

/** Paint all cells in view anew. */
function paintAllCells() {
  cellsView.queue = [...cellsView.cells.values()];
  paintCells();
}
