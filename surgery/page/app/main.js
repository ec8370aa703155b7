// Starts the page when all its scripts have run: the panes, the link, the first operation.
"use strict";

const PANES = [
  ["graph", "Graph", "graph"],
  ["channels", "Channels", "tiles"],
  ["facts", "Facts", "facts"],
];

/** Show one of the panes where there is room for only one. */
function showPane(name) {
  document.body.dataset.pane = name;
  for (const tab of byId("tabs").children) tab.setAttribute("aria-pressed", String(tab.dataset.pane === name));
}

function startTabs() {
  byId("tabs").append(
    ...PANES.map(([name, text, picture]) =>
      element("button", { type: "button", dataset: { pane: name }, onclick: () => showPane(name) }, icon(picture), element("span", { text })),
    ),
  );
  showPane("graph");
  onChange((changed) => {
    const isByHand = document.activeElement?.closest("#graph-pane");
    if (changed.has("operation") && isByHand && document.activeElement.id !== "query") showPane("channels");
  });
}

/** The width of the graph follows its divider, by pointer and by arrow keys. */
function startDivider() {
  const divider = byId("divider");
  const resize = (width) => setStyle(byId("panes"), { "--graph-width": `${clamp(width, 240, innerWidth - 360)}px` });
  divider.onpointerdown = (event) => {
    divider.setPointerCapture(event.pointerId);
    divider.onpointermove = (move) => resize(move.clientX);
  };
  divider.onpointerup = () => (divider.onpointermove = null);
  divider.onkeydown = (event) => {
    const step = { ArrowLeft: -20, ArrowRight: 20 }[event.key];
    if (!step) return;
    resize(byId("graph-pane").clientWidth + step);
    event.preventDefault();
    event.stopPropagation();
  };
}

function start() {
  if (missingScripts.length) return;
  if (!surgeryPage.runs.length) {
    document.body.dataset.pane = "channels";
    byId("channels").append(element("p", { class: "message", text: "page/run.js is damaged: run `surgery view` on the folder" }));
    return;
  }
  for (const startPart of [startTabs, startDivider, startSearch, startGraph, startChannels, startEnlarged, startFacts, startToolbar, startLink, startKeys]) startPart();
  readLink();
  update({ operation: state.operation || firstOperation(currentRun()), folds: 1, shown: -1 });
  changedKeys.add("run").add("image");
  document.title = `${currentRun().label} – surgery`;
}

addEventListener("DOMContentLoaded", start);
