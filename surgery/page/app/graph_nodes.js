// The nodes and boxes of the graph: operations with thumbnails, folded modules, unfolded modules.
"use strict";

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

function isInside(segment, position) {
  return position >= segment.start && position < segment.end;
}

/** Whether the search and the filters leave an operation, or any one in a folded module. */
function rowMatches(row) {
  const { matches } = graphView;
  if (!matches) return true;
  if (row.type === "operation") return matches.has(row.position);
  for (let position = row.segment.start; position < row.segment.end; position += 1) if (matches.has(position)) return true;
  return false;
}
