// The graph on the left: nodes with thumbnails, boxes that fold, edges that can be followed. Only what is in view, and a
// screen above and below it, is in the document.
"use strict";

const OVERSCAN = 600;

const graphView = {
  /** Keys of unfolded segments, by run. @type {Map<string, Set<string>>} */ open: new Map(),
  /** @type {GraphLayout|null} */ layout: null,
  /** @type {Map<number, HTMLElement>} */ nodes: new Map(),
  /** Positions that the search and the filters leave; null for all. @type {Set<number>|null} */ matches: null,
  drawn: { top: 1, bottom: 0 },
};

function openSegments() {
  const run = currentRun();
  if (!graphView.open.has(run.id)) graphView.open.set(run.id, segmentsToOpen(graphModel(run)));
  return graphView.open.get(run.id);
}

/** Build the graph's elements once. */
function startGraph() {
  const pane = byId("graph");
  graphView.canvas = element("div", { class: "graph-canvas", role: "tree", "aria-label": "Operations in order of execution" });
  graphView.edges = svgElement("svg", { class: "edges" });
  graphView.boxes = element("div", { class: "boxes" });
  graphView.list = element("div", { class: "nodes" });
  graphView.canvas.append(graphView.boxes, graphView.edges, graphView.list);
  pane.append(graphView.canvas);
  pane.addEventListener("scroll", () => requestAnimationFrame(drawVisible), { passive: true });
  new ResizeObserver(() => layOut()).observe(pane);
  onChange(refreshGraph);
}

function refreshGraph(changed) {
  if (hasChanged(changed, "run", "image", "measure", "measuresLoaded", "folds", "matches", "threshold")) layOut();
  if (hasChanged(changed, "operation", "run")) showOperation();
  if (hasChanged(changed, "place", "pointer")) markPlace(graphView.canvas);
}

/** Lay the graph out anew, and draw what is in view. */
function layOut() {
  const pane = byId("graph");
  if (!pane.clientWidth || !surgeryPage.runs.length) return;
  graphView.layout = layOutGraph(graphModel(currentRun()), openSegments(), pane.clientWidth);
  const { width, height } = graphView.layout;
  setStyle(graphView.canvas, { width: `${Math.max(width, pane.clientWidth)}px`, height: `${height}px` });
  graphView.edges.setAttribute("width", Math.max(width, pane.clientWidth));
  graphView.edges.setAttribute("height", height);
  graphView.nodes.clear();
  graphView.list.replaceChildren();
  graphView.drawn = { top: 1, bottom: 0 };
  if (state.measure) graphView.measureEnd = measureEnd(state.measure);
  drawVisible();
}

/** Draw what is in view, unless it is drawn. */
function drawVisible() {
  const pane = byId("graph");
  const [top, bottom] = [pane.scrollTop, pane.scrollTop + pane.clientHeight];
  if (!graphView.layout || (top >= graphView.drawn.top && bottom <= graphView.drawn.bottom)) return;
  graphView.drawn = { top: top - OVERSCAN / 2, bottom: bottom + OVERSCAN / 2 };
  const [from, to] = [top - OVERSCAN, bottom + OVERSCAN];
  const { rows, boxes } = graphView.layout;
  const first = firstRowAt(rows, from);
  const wanted = new Set();
  for (let row = first; row < rows.length && rows[row].y < to; row += 1) wanted.add(row);
  for (const [row, node] of graphView.nodes) {
    if (wanted.has(row)) continue;
    node.remove();
    graphView.nodes.delete(row);
  }
  for (const row of wanted) {
    if (graphView.nodes.has(row)) continue;
    const node = makeNode(rows[row]);
    graphView.nodes.set(row, node);
    graphView.list.append(node);
  }
  graphView.boxes.replaceChildren(...boxes.filter((box) => box.y < to && box.y + box.height > from).map(makeBox));
  drawEdges(from, to);
  markPlace(graphView.canvas);
}

/** The first row whose lower end is below `y`. */
function firstRowAt(rows, y) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].y + rows[middle].height < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A node: of an operation, or of a folded module. */
function makeNode(row) {
  const model = graphModel(currentRun());
  const operation = model.operations[row.position];
  const isModule = row.type === "module";
  const isChosen = isModule ? isInside(row.segment, model.positions.get(state.operation)) : operation.path === state.operation;
  const isSlim = row.height === SLIM_HEIGHT;
  const isMatch = rowMatches(row);
  const title = isModule ? row.segment.label : shortName(model, row.position);
  const detail = isModule
    ? `${count(row.segment.end - row.segment.start, "operation")}  ·  ${formatShape(sizeOfOne(operation))}`
    : [operation.kind, operation.shape && formatShape(sizeOfOne(operation))].filter(Boolean).join("  ·  ");
  const remarks = isModule ? [] : (operation.remarks ?? []);
  const node = element(
    "button",
    {
      type: "button",
      class: ["node", isModule && "is-module", isSlim && "is-slim", isChosen && "is-chosen", isMatch || "is-dim"].filter(Boolean).join(" "),
      role: "treeitem",
      "aria-selected": String(isChosen),
      "aria-expanded": isModule ? "false" : null,
      "aria-label": [isModule ? `module ${row.segment.path}` : operation.path, detail, ...remarks].join(", "),
      title: isModule ? `${row.segment.path}: unfold` : [operation.path, operation.target, ...remarks].filter(Boolean).join("\n"),
      dataset: { kind: kindFamily(operation.kind), ...(isModule ? { module: row.segment.path } : { path: operation.path }) },
      style: { left: `${row.x}px`, top: `${row.y}px`, width: `${graphView.layout.nodeWidth}px` },
      onclick: () => (isModule ? toggleSegment(row.segment) : chooseOperation(operation.path)),
    },
    isSlim ? null : thumbnail(currentRun(), currentImage(), operation, 36),
    element(
      "span",
      { class: "node-text" },
      element("span", { class: "node-title" }, isModule ? icon("next") : null, element("span", { text: title })),
      element("span", { class: "node-detail", text: detail }),
    ),
    remarks.length ? element("span", { class: "remark-sign" }, icon("warning")) : null,
    state.measure && !isModule ? measureBar(operation) : null,
  );
  return node;
}

/** The shape of one image's value. */
function sizeOfOne({ shape }) {
  return shape && shape.length > 1 ? shape.slice(1) : shape;
}

/** A small bar of the chosen measure: pale to the highest channel, dark to the mean, with a tick at the threshold. */
function measureBar(operation) {
  const summary = measureSummary(state.measure, operation.path);
  if (!summary) return null;
  const share = (value) => `${100 * clamp(value / graphView.measureEnd, 0, 1)}%`;
  const isHigh = isAboveThreshold(state.measure, operation);
  const label = `${state.measure}: mean ${formatNumber(summary.mean)}, highest channel ${formatNumber(summary.most)}`;
  return element(
    "span",
    { class: `measure${isHigh ? " is-high" : ""}`, title: label },
    element("span", { class: "measure-number", text: `${isHigh ? "! " : ""}${formatNumber(summary.most, 2)}` }),
    element(
      "span",
      { class: "measure-track" },
      element("span", { class: "measure-most", style: { width: share(summary.most) } }),
      element("span", { class: "measure-mean", style: { width: share(summary.mean) } }),
      element("span", { class: "measure-tick", style: { left: share(state.threshold) } }),
    ),
  );
}

/** A family of kinds, for the color of a node's edge. */
function kindFamily(kind) {
  if (/conv|linear|matmul|einsum|attention|embedding|lstm|gru/.test(kind)) return "weights";
  if (/norm/.test(kind)) return "norm";
  if (/relu|act|gelu|silu|tanh|sigmoid|softmax|swish|elu|mish/.test(kind)) return "activation";
  if (/^(cat|concat\w*|stack|i?(add|sub|mul|div|truediv))_?$/.test(kind)) return "join";
  if (/pool|interpolate|upsample|pixelshuffle/.test(kind)) return "resize";
  if (kind === "input" || kind === "output") return "end";
  return "other";
}

/** The box of an unfolded module. */
function makeBox(box) {
  const head = element(
    "button",
    {
      type: "button",
      class: "box-head",
      title: `${box.segment.path}: fold`,
      "aria-expanded": "true",
      "aria-label": `module ${box.segment.path}, unfolded`,
      dataset: { module: box.segment.path },
      onclick: () => toggleSegment(box.segment),
    },
    icon("fold"),
    element("span", { text: box.segment.label }),
  );
  return element(
    "div",
    { class: "box", style: { left: `${box.x}px`, top: `${box.y}px`, width: `${box.width}px`, height: `${box.height}px` } },
    head,
  );
}

/** Draw the edges between `from` and `to` (pixels). */
function drawEdges(from, to) {
  const { rows, edges } = graphView.layout;
  const chosen = graphView.layout.rowOf[graphModel(currentRun()).positions.get(state.operation)] ?? -1;
  const drawn = [];
  for (const edge of edges) {
    const [a, b] = [rows[edge.from], rows[edge.to]];
    if (Math.max(a.y, b.y) + NODE_HEIGHT < from || Math.min(a.y, b.y) > to) continue;
    const touches = edge.from === chosen || edge.to === chosen;
    drawn.push([touches, makeEdge(edge, a, b, touches)]);
  }
  drawn.sort((a, b) => a[0] - b[0]);
  graphView.edges.replaceChildren(...drawn.map(([, made]) => made));
}

function makeEdge(edge, a, b, touches) {
  const shape = edge.isNext ? straightEdge(a, b) : skipEdge(edge, a, b);
  const group = svgElement("g", { class: `edge${edge.isNext ? "" : " is-skip"}${touches ? " is-chosen" : ""}` });
  group.append(svgElement("path", { class: "edge-line", d: shape }));
  if (!edge.isNext) {
    const tip = `M${b.x - 5} ${b.y + b.height / 2 - 3.5}l5 3.5l-5 3.5z`;
    const [from, to] = [rowName(a), rowName(b)];
    const reach = svgElement("path", { class: "edge-reach", d: shape });
    const title = svgElement("title");
    title.textContent = `${from} → ${to}: follow`;
    group.dataset.from = from;
    group.dataset.to = to;
    group.append(svgElement("path", { class: "edge-tip", d: tip }), reach, title);
    group.addEventListener("click", () => follow(edge));
  }
  return group;
}

function rowName(row) {
  return row.type === "module" ? row.segment.path : graphModel(currentRun()).operations[row.position].path;
}

function straightEdge(a, b) {
  const [x1, x2] = [a.x + 9, b.x + 9];
  const [y1, y2] = [a.y + a.height, b.y];
  const bend = Math.min(18, (y2 - y1) / 2);
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
}

function skipEdge(edge, a, b) {
  const [y1, y2] = [a.y + a.height / 2 + Math.min(8, a.height / 4), b.y + b.height / 2];
  const x = edge.lane;
  const turn = Math.sign(y2 - y1) * Math.min(9, Math.abs(y2 - y1) / 2);
  return `M${a.x} ${y1}H${x + 9}Q${x} ${y1} ${x} ${y1 + turn}V${y2 - turn}Q${x} ${y2} ${x + 9} ${y2}H${b.x - 2}`;
}

/** Go to the other end of an edge. */
function follow(edge) {
  const { rows, rowOf } = graphView.layout;
  const isAtEnd = rowOf[graphModel(currentRun()).positions.get(state.operation)] === edge.to;
  const row = rows[isAtEnd ? edge.from : edge.to];
  chooseOperation(graphModel(currentRun()).operations[row.position].path);
}

function isInside(segment, position) {
  return position >= segment.start && position < segment.end;
}

/** Fold or unfold a module. */
function toggleSegment(segment) {
  const open = openSegments();
  if (!open.delete(segment.key)) open.add(segment.key);
  layOut();
}

/** Unfold or fold all modules. */
function toggleAllSegments() {
  const open = openSegments();
  const all = allSegments(graphModel(currentRun()).root);
  const isOpen = all.every((segment) => open.has(segment.key));
  open.clear();
  if (!isOpen) for (const segment of all) open.add(segment.key);
  layOut();
  showOperation();
}

/** @returns {Segment[]} */
function allSegments(segment) {
  return segment.children.flatMap((child) => (typeof child === "number" ? [] : [child, ...allSegments(child)]));
}

/** Show an operation. The channel stays if the operation has it. */
function chooseOperation(path) {
  update({ operation: path });
}

/** Bring the chosen operation into view; modules around it are unfolded. */
function showOperation() {
  const model = graphModel(currentRun());
  const position = model.positions.get(state.operation);
  if (position === undefined) return;
  const open = openSegments();
  let isNew = false;
  for (let segment = model.around[position]; segment?.parent; segment = segment.parent) {
    if (!open.has(segment.key)) isNew = true;
    open.add(segment.key);
  }
  if (isNew || !graphView.layout) layOut();
  if (!graphView.layout) return;
  const row = graphView.layout.rows[graphView.layout.rowOf[position]];
  const pane = byId("graph");
  const margin = Math.min(90, pane.clientHeight / 4);
  if (row.y < pane.scrollTop + margin) pane.scrollTop = row.y - margin;
  else if (row.y + row.height > pane.scrollTop + pane.clientHeight - margin) pane.scrollTop = row.y + row.height + margin - pane.clientHeight;
  graphView.drawn = { top: 1, bottom: 0 };
  for (const node of graphView.nodes.values()) node.remove();
  graphView.nodes.clear();
  drawVisible();
}

/** Whether the search and the filters leave an operation, or any one in a folded module. */
function rowMatches(row) {
  const { matches } = graphView;
  if (!matches) return true;
  if (row.type === "operation") return matches.has(row.position);
  for (let position = row.segment.start; position < row.segment.end; position += 1) if (matches.has(position)) return true;
  return false;
}
