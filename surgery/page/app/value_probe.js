// The value under the pointer: from a place [u, v] in a map to the pixel, its code, its value and its half-level error.
"use strict";

/** The place of an event on an element, from 0 to 1 in both directions. @returns {[number, number]} */
function placeOf(event, target) {
  const box = target.getBoundingClientRect();
  const [u, v] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  return [clamp(u, 0, 1 - 1e-9), clamp(v, 0, 1 - 1e-9)];
}

/** Column and row of the pixel at a place. @returns {[number, number]} */
function pixelOf(activation, [u, v]) {
  const column = clamp(Math.floor(u * activation.width), 0, activation.width - 1);
  return [column, clamp(Math.floor(v * activation.height), 0, activation.height - 1)];
}

/** The value of a channel at a place. @returns {Reading} */
function readAt(activation, channel, place) {
  return activation.read(channel, ...pixelOf(activation, place));
}

/** A value with its error as text; red, green and blue of a color picture. */
function describeReading(activation, channel, place) {
  if (activation.isColor) {
    const values = [0, 1, 2].map((plane) => formatNumber(readAt(activation, plane, place).value, 3));
    return `red ${values[0]}  green ${values[1]}  blue ${values[2]}`;
  }
  const { value, error, special } = readAt(activation, channel, place);
  return special ?? formatWithError(value, error);
}

/** Where a place is, in the words of the map. */
function describePixel(activation, place) {
  const [column, row] = pixelOf(activation, place);
  if (activation.isVector) return `element ${row * activation.width + column}`;
  return `row ${row}, column ${column}`;
}

/** The pointer in a cell of the grid. */
function pointInCell(event, channel) {
  channelsView.hovered = channel;
  update({ pointer: placeOf(event, event.currentTarget.querySelector("canvas")) });
}

/** Show values and markers of the enlarged channel. The pointer comes before the mark. */
function readPanels() {
  const channel = state.channel;
  const place = state.pointer ?? state.place;
  if (channel === null || !shown.activation) return;
  for (const panel of enlargedView.panels) {
    const isRead = place !== null && channel < panel.activation.channels;
    panel.marker.hidden = !isRead;
    panel.reading.textContent = enlargedView.panels.length > 1 ? describePanel(panel.activation, channel, isRead ? place : null) : "";
    if (isRead) placeMarker(panel, place);
  }
  const { value, where } = enlargedView;
  const { activation } = shown;
  value.classList.toggle("is-long", activation.isColor);
  enlargedView.extremes.hidden = activation.isColor;
  value.textContent = place ? describeReading(activation, channel, place) : "";
  where.textContent = place ? `${describePixel(activation, place)}${state.pointer ? "" : ", marked"}` : "point at the map to read a value, click to mark the place";
  const reading = place && readAt(activation, channel, place);
  markHistogram(enlargedView.histogram, reading ? reading.value : Number.NaN);
  readSamePlace(place);
}

/** The value of a panel at the place; without a place, the ends of its scale. */
function describePanel(activation, channel, place) {
  if (place) return describeReading(activation, channel, place);
  if (activation.isColor || channel >= activation.channels) return "";
  return panelLimits(activation, channel)
    .map((each) => formatNumber(each, 3))
    .join(" … ");
}

/** Mark the place on all thumbnails or cells of an element. */
function markPlace(target) {
  const place = state.pointer ?? state.place;
  target.classList.toggle("has-place", place !== null);
  if (place) setStyle(target, { "--u": place[0], "--v": place[1] });
}

/** Put a panel's marker around the pixel of a place. */
function placeMarker(panel, place) {
  const { activation, marker } = panel;
  const [column, row] = pixelOf(activation, place);
  setStyle(marker, {
    left: `${(100 * (column + 0.5)) / activation.width}%`,
    top: `${(100 * (row + 0.5)) / activation.height}%`,
    "--pixel": `${panel.stage.clientWidth / activation.width}px`,
  });
}

/** The line below the channels: what is under the pointer in the grid. */
function drawReadout() {
  const { activation } = shown;
  const channel = channelsView.hovered ?? state.channel;
  const place = state.pointer ?? state.place;
  const line = byId("readout");
  if (!activation || channel === null || channel === undefined || !place || channel >= activation.channels) {
    const size = activation && `${activation.height}×${activation.width}`;
    line.textContent = !activation || activation.isColor ? "" : activation.isVector ? `a vector of ${formatShape(currentOperation().shape)}` : `${count(activation.channels, "channel")} of ${size}`;
    return;
  }
  const name = activation.isColor || activation.isVector ? "" : `channel ${channel}  ·  `;
  line.textContent = `${name}${describePixel(activation, place)}  ·  ${describeReading(activation, channel, place)}`;
}

/** Move the mark by pixels. */
function moveMark(columns, rows) {
  const { activation } = shown;
  if (!activation) return;
  const [column, row] = pixelOf(activation, state.place ?? [0.5, 0.5]);
  const x = clamp(column + columns, 0, activation.width - 1);
  const y = clamp(row + rows, 0, activation.height - 1);
  update({ place: [(x + 0.5) / activation.width, (y + 0.5) / activation.height], channel: state.channel ?? 0 });
}
