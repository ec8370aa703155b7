// The keys: arrows walk channels and operations, `/` searches, `?` lists the keys.
"use strict";

/** Keys with what they do; the list of the dialog and the handler are made of it. */
const KEYS = [
  { keys: ["ArrowLeft", "ArrowRight"], names: "← →", text: "previous, next channel", run: (key) => stepChannel(key === "ArrowLeft" ? -1 : 1) },
  { keys: ["ArrowUp", "ArrowDown"], names: "↑ ↓", text: "previous, next operation", run: (key) => stepOperation(key === "ArrowUp" ? -1 : 1) },
  { keys: ["Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown"], names: "Shift + ← → ↑ ↓", text: "move the mark by one pixel", run: moveByKey },
  { keys: [], names: "click, Shift + click", text: "mark a place: in the enlarged channel, among all channels" },
  { keys: ["M", "N"], names: "M N", text: "mark the maximum, the minimum of the channel", run: (key) => markExtreme(key === "M" ? 1 : -1) },
  { keys: ["Enter"], names: "Enter", text: "enlarge the first channel", run: () => state.channel === null && stepChannel(0) },
  { keys: ["Escape"], names: "Esc", text: "all channels", run: () => update({ channel: null }) },
  { keys: ["[", "]"], names: "[ ]", text: "previous, next image", run: (key) => stepImage(key === "[" ? -1 : 1) },
  { keys: ["<", ">", ",", "."], names: "< >", text: "previous, next run", run: (key) => stepRun(key === "<" || key === "," ? -1 : 1) },
  { keys: ["/"], names: "/", text: "search operations", run: () => focusSearch() },
  { keys: ["F"], names: "F", text: "fold or unfold all modules", run: () => toggleAllSegments() },
  { keys: ["C", "Shift+C"], names: "C, Shift + C", text: "next, previous of the common colormaps", run: (key) => stepColormap(key === "C" ? 1 : -1) },
  { keys: ["R"], names: "R", text: "reverse the colors", run: () => update({ isReversed: !state.isReversed }) },
  { keys: ["S"], names: "S", text: "next scale", run: () => stepScale() },
  { keys: ["0"], names: "0", text: "scale symmetric around zero", run: () => update({ aroundZero: !state.aroundZero }) },
  { keys: ["T"], names: "T", text: "dark or light", run: () => toggleTheme() },
  { keys: ["?"], names: "?", text: "this list", run: () => showKeys() },
];

function startKeys() {
  const handlers = new Map(KEYS.flatMap((entry) => entry.keys.map((key) => [key, entry.run])));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const isOnButton = event.target.closest("button") !== null;
    const name = keyName(event);
    if (!handlers.has(name) || (isOnButton && name === "Enter")) return;
    event.preventDefault();
    handlers.get(name)(name);
  });
}

/** A key as the list names it: letters in upper case, Shift before arrows and letters. */
function keyName(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const isNamed = /^([A-Z]|Arrow\w+)$/.test(key);
  return event.shiftKey && isNamed ? `Shift+${key}` : key;
}

function moveByKey(key) {
  const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key.slice(6)];
  moveMark(x, y);
}

/** Go to the operation before or after that was drawn; only to matches while there is a search. */
function stepOperation(step) {
  const { operations, positions } = graphModel(currentRun());
  const allowed = (position) => operations[position].picture.length && (graphView.matches?.has(position) ?? true);
  let position = (positions.get(state.operation) ?? -1) + step;
  while (position >= 0 && position < operations.length && !allowed(position)) position += step;
  if (operations[position]) chooseOperation(operations[position].path);
}

function stepImage(step) {
  update({ image: clamp(state.image + step, 0, currentRun().images.length - 1) });
}

function stepRun(step) {
  chooseRun(clamp(state.run + step, 0, surgeryPage.runs.length - 1));
}

function stepScale() {
  const names = SCALE_CHOICES.filter(isPossibleScale).map(([name]) => name);
  update({ scale: names[(names.indexOf(state.scale) + 1) % names.length] });
}

function focusSearch() {
  showPane("graph");
  byId("query").focus();
  byId("query").select();
}

/** The list of keys. */
function showKeys() {
  const dialog = byId("keys");
  const rows = KEYS.flatMap(({ names, text }) => [element("dt", {}, element("kbd", { text: names })), element("dd", { text })]);
  dialog.replaceChildren(
    element("h2", { text: "Keys" }),
    element("dl", {}, ...rows),
    element("form", { method: "dialog" }, element("button", { text: "Close" })),
  );
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  if (!dialog.open) dialog.showModal();
}
