// The search above the graph: the selection language, and filters by kind, by remark and by a measure.
"use strict";

const searchView = {};

function startSearch() {
  const box = element("input", {
    type: "search",
    id: "query",
    placeholder: "up*.conv, op:cat",
    "aria-label": "Search operations by the selection language",
    title: "Patterns of paths with * and ?, op:KIND, inside:MODULE, joined by & | ~ and ( )   [ / ]",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => update({ query: box.value }),
    onkeydown: (event) => {
      if (event.key === "Enter") stepMatch(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") leaveSearch(box);
      else return;
      event.preventDefault();
    },
  });
  searchView.box = box;
  searchView.note = element("output", { class: "search-note", "aria-live": "polite" });
  searchView.filters = element("div", { class: "filters" });
  byId("search").append(
    element(
      "div",
      { class: "search-line" },
      icon("search"),
      box,
      searchView.note,
      iconButton("up", "Previous match (Shift+Enter)", () => stepMatch(-1)),
      iconButton("down", "Next match (Enter)", () => stepMatch(1)),
    ),
    searchView.filters,
  );
  onChange((changed) => {
    if (hasChanged(changed, "run", "measure", "remark", "kind", "image", "threshold", "measuresLoaded")) drawFilters();
    if (hasChanged(changed, "query", "kind", "remark", "run", "image", "measure", "threshold", "measuresLoaded")) search();
  });
}

function leaveSearch(box) {
  if (box.value) update({ query: (box.value = "") });
  else box.blur();
}

function drawFilters() {
  const operations = currentRun().operations;
  const kinds = [...new Set(operations.map((each) => each.kind))].sort();
  const remarks = [...new Set(operations.flatMap((each) => (each.remarks ?? []).map(remarkKind)))].sort();
  const measures = measureNames();
  const measured = measures.map((name) => [`measure:${name}`, `${name} above threshold`]);
  replaceContent(
    searchView.filters,
    selectBox("Kind", [["", "kind: all"], ...kinds.map((kind) => [kind, kind])], state.kind, (kind) => update({ kind })),
    selectBox(
      "Remark",
      [["", "remark: all"], ...(remarks.length ? [["any", "with a remark"]] : []), ...remarks.map((each) => [each, each]), ...measured],
      state.remark,
      (remark) => update(remark.startsWith("measure:") ? { remark, measure: remark.slice(8) } : { remark }),
    ),
    button("fold / unfold", "Fold or unfold all modules (F)", toggleAllSegments, { class: "quiet" }),
    measureSelect(measures),
    ...(state.measure ? [thresholdBox(), firstAbove()] : []),
  );
}

function measureSelect(measures) {
  const none = measures.length ? [["", "measure: none"]] : [["", "measure: none"], ["-", "this run has none: surgery extract --measure checkerboard", true]];
  const choices = [...none, ...measures.map((name) => [name, name])];
  return selectBox("Measure drawn along the graph", choices, state.measure, (measure) => update({ measure, threshold: thresholdOf(measure) }));
}

/** The threshold that a run gives for a measure, or 0.2. */
function thresholdOf(measure) {
  return currentRun().measures?.[measure]?.threshold ?? 0.2;
}

function thresholdBox() {
  const box = element("input", {
    type: "number",
    class: "threshold",
    step: "any",
    value: state.threshold,
    "aria-label": "Threshold of the measure",
    title: "Threshold: operations with a channel above it are marked",
    onchange: () => update({ threshold: Number(box.value) }),
  });
  return box;
}

/** How many operations are above the threshold; a click leads to the first of them. */
function firstAbove() {
  const above = currentRun().operations.filter((operation) => isAboveThreshold(state.measure, operation));
  const options = { class: "link", disabled: !above.length };
  const text = above.length ? `first of ${above.length} above` : "none above";
  return button(text, "Go to the first operation above the threshold", () => chooseOperation(above[0].path), options);
}

/** A remark without its numbers: "3 constant channels" -> "constant channels". */
function remarkKind(remark) {
  return remark.replace(/[\d,./]+\s*/g, "").replace(/^channel /, "channels ").trim();
}

/** Find the operations that match, and say how many there are. */
function search() {
  const query = state.query.trim();
  let text = "";
  let predicate = () => true;
  try {
    if (query) [predicate, text] = searchPredicate(query);
    searchView.note.classList.remove("is-error");
  } catch (error) {
    if (!(error instanceof SelectionError)) throw error;
    searchView.note.classList.add("is-error");
    text = error.message;
  }
  const operations = currentRun().operations;
  const isFiltered = query || state.kind || state.remark;
  const matches = new Set();
  if (isFiltered) operations.forEach((each, position) => predicate(each) && passesFilters(each) && matches.add(position));
  graphView.matches = isFiltered ? matches : null;
  const total = `${matches.size} of ${operations.length}`;
  searchView.note.textContent = searchView.note.classList.contains("is-error") ? text : isFiltered ? `${text}${total}` : "";
  searchView.note.title = searchView.note.textContent;
  if (searchView.box.value !== state.query) searchView.box.value = state.query;
  layOut();
}

/** The predicate of a query. A word that matches no path is searched for inside paths. @returns {[Predicate, string]} */
function searchPredicate(query) {
  const predicate = parseSelection(query);
  const isWord = /^[^\s&|~():*?[\]]+$/.test(query);
  if (!isWord || currentRun().operations.some(predicate)) return [predicate, ""];
  return [parseSelection(`*${query}*`), `*${query}*: `];
}

function passesFilters(operation) {
  if (state.kind && operation.kind !== state.kind) return false;
  if (!state.remark) return true;
  const remarks = operation.remarks ?? [];
  if (state.remark === "any") return remarks.length > 0;
  if (state.remark.startsWith("measure:")) {
    return isAboveThreshold(state.remark.slice(8), operation);
  }
  return remarks.some((each) => remarkKind(each) === state.remark);
}

/** Go to the next or the previous match. */
function stepMatch(step) {
  const matches = [...(graphView.matches ?? [])];
  if (!matches.length) return;
  const now = graphModel(currentRun()).positions.get(state.operation) ?? -1;
  const next = step > 0 ? (matches.find((each) => each > now) ?? matches[0]) : (matches.findLast((each) => each < now) ?? matches.at(-1));
  chooseOperation(currentRun().operations[next].path);
}
