// Places of nodes, boxes and edges: y is the order of execution, x the resolution level, so that a U-Net looks like a U
// on its side. One pass over rows and edges; 5,000 operations take milliseconds.
"use strict";

const NODE_HEIGHT = 46;
const SLIM_HEIGHT = 26; // of an operation without a picture
const NODE_GAP = 8;
const HEAD_HEIGHT = 26;
const BOX_PAD = 7;
const LANE_STEP = 5;
const MAX_LANES = 9;

/**
 * @typedef {{type: "operation"|"module", position: number, segment: Segment|null, x: number, y: number,
 *   height: number}} Row
 * @typedef {{segment: Segment, x: number, y: number, width: number, height: number}} Box
 * @typedef {{from: number, to: number, lane: number, isNext: boolean}} Edge  between rows; lane is an x
 * @typedef {{rows: Row[], boxes: Box[], edges: Edge[], rowOf: Int32Array, width: number, height: number,
 *   nodeWidth: number}} GraphLayout
 */

/** Lay out a graph whose segments in `open` (keys) are unfolded, for a width. @returns {GraphLayout} */
function layOutGraph(model, open, paneWidth) {
  const rowOf = new Int32Array(model.operations.length).fill(-1);
  /** @type {Row[]} */ const rows = [];
  /** @type {Box[]} */ const boxes = [];
  const margin = 14 + LANE_STEP * Math.min(MAX_LANES, laneDemand(model));
  const depth = openDepth(model.root, open);
  const nodeWidth = clamp(paneWidth - margin - 2 * depth * BOX_PAD - 90, 176, 240);
  const free = paneWidth - margin - nodeWidth - 2 * depth * BOX_PAD - 16;
  const step = model.deepest ? clamp(free / model.deepest, 5, 30) : 0;
  const place = { y: 10 };
  const left = (level) => margin + depth * BOX_PAD + level * step;

  const addRow = (type, position, segment, level) => {
    const isSlim = type === "operation" && !model.operations[position].picture.length;
    const height = isSlim ? SLIM_HEIGHT : NODE_HEIGHT;
    rows.push({ type, position, segment, x: left(level), y: place.y, height });
    place.y += height + NODE_GAP;
  };

  const visit = (segment) => {
    for (const child of segment.children) {
      if (typeof child === "number") {
        rowOf[child] = rows.length;
        addRow("operation", child, null, model.levels[child]);
      } else if (open.has(child.key)) openBox(child);
      else {
        rowOf.fill(rows.length, child.start, child.end);
        addRow("module", child.end - 1, child, model.levels[child.end - 1]);
      }
    }
  };

  const openBox = (segment) => {
    const first = rows.length;
    const box = { segment, x: 0, y: place.y, width: 0, height: 0 };
    boxes.push(box);
    place.y += HEAD_HEIGHT;
    visit(segment);
    let [low, high] = [Infinity, 0];
    for (let row = first; row < rows.length; row += 1) {
      low = Math.min(low, rows[row].x);
      high = Math.max(high, rows[row].x);
    }
    const pad = BOX_PAD * (1 + openDepth(segment, open));
    box.x = low - pad;
    box.width = high - low + nodeWidth + 2 * pad;
    box.height = place.y - box.y - NODE_GAP + BOX_PAD;
    place.y += BOX_PAD + 2;
  };

  visit(model.root);
  const edges = layOutEdges(model, rows, rowOf, BOX_PAD * depth);
  makeRoomForLanes(edges, rows, boxes);
  const width = rows.reduce((most, row) => Math.max(most, row.x), 0) + nodeWidth + depth * BOX_PAD + 10;
  return { rows, boxes, edges, rowOf, width, height: place.y + 10, nodeWidth };
}

/** Move everything to the right if a lane would lie outside of the pane. */
function makeRoomForLanes(edges, rows, boxes) {
  const missing = 6 - edges.reduce((least, { isNext, lane }) => (isNext ? least : Math.min(least, lane)), 6);
  if (missing <= 0) return;
  for (const each of [...rows, ...boxes]) each.x += missing;
  for (const edge of edges) edge.lane += missing;
}

/** How many levels of open segments there are at most in a segment. */
function openDepth(segment, open) {
  let most = 0;
  for (const child of segment.children) {
    if (typeof child !== "number" && open.has(child.key)) most = Math.max(most, 1 + openDepth(child, open));
  }
  return most;
}

/** Whether a graph has skips: then room for their lanes is left. */
function laneDemand(model) {
  const skips = model.before.filter((operands, position) => operands.some((each) => each < position - 1)).length;
  return skips ? Math.max(2, Math.min(MAX_LANES, Math.ceil(skips / 4))) : 0;
}

/** The edges between rows. The skips of one node share a lane left of the nodes that they pass. @returns {Edge[]} */
function layOutEdges(model, rows, rowOf, pad) {
  const leftmost = rangeMinimum(rows.map((row) => row.x));
  /** @type {Map<number, Int32Array>} */ const lanes = new Map();
  const edges = [];
  for (const [from, targets] of rowTargets(model, rows, rowOf).entries()) {
    const skips = [...targets].filter((to) => to !== from + 1);
    let lane = 0;
    if (skips.length) {
      const [first, last] = [Math.min(from, ...skips), Math.max(from, ...skips)];
      const base = leftmost(first, last) - pad - 4;
      lane = base - LANE_STEP * takeLane(lanes, Math.round(base), first, last);
    }
    for (const to of targets) edges.push({ from, to, isNext: to === from + 1, lane: to === from + 1 ? 0 : lane });
  }
  return edges;
}

/** The rows to which edges lead from each row. @returns {Set<number>[]} */
function rowTargets(model, rows, rowOf) {
  const targets = rows.map(() => new Set());
  model.after.forEach((positions, position) => {
    for (const next of positions) if (rowOf[next] !== rowOf[position]) targets[rowOf[position]].add(rowOf[next]);
  });
  return targets;
}

/** The first lane beside `base` that is free from row `first` on. */
function takeLane(lanes, base, first, last) {
  const ends = lanes.get(base) ?? new Int32Array(MAX_LANES).fill(-1);
  lanes.set(base, ends);
  let lane = ends.findIndex((end) => end <= first);
  if (lane < 0) lane = last % MAX_LANES;
  ends[lane] = Math.max(ends[lane], last);
  return lane + 1;
}

/** A function that gives the minimum of a range of numbers, by a sparse table. */
function rangeMinimum(numbers) {
  const table = [Float64Array.from(numbers)];
  for (let size = 1; 2 * size <= numbers.length; size *= 2) {
    const last = table.at(-1);
    table.push(Float64Array.from({ length: numbers.length - 2 * size + 1 }, (_, i) => Math.min(last[i], last[i + size])));
  }
  return (first, last) => {
    const level = 31 - Math.clz32(last - first + 1);
    return Math.min(table[level][first], table[level][last - (1 << level) + 1]);
  };
}

/** The segments that are unfolded at first: from the outside in, while the rows stay few. @returns {Set<string>} */
function segmentsToOpen(model, maxRows = 90) {
  const open = new Set();
  let rows = model.root.children.length;
  let level = model.root.children;
  while (level.length) {
    const segments = level.filter((child) => typeof child !== "number");
    const added = segments.reduce((sum, segment) => sum + segment.children.length, 0);
    if (!segments.length || rows + added > maxRows) break;
    for (const segment of segments) open.add(segment.key);
    rows += added;
    level = segments.flatMap((segment) => segment.children);
  }
  return open;
}
