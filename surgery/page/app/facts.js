// The right: facts of the chosen operation and of the run, in text.
"use strict";

function startFacts() {
  onChange((changed) => {
    if (hasChanged(changed, "run", "image", "operation", "shown", "measuresLoaded")) drawFacts();
  });
}

function drawFacts() {
  const operation = currentOperation();
  byId("facts-pane").replaceChildren(
    ...(operation ? [operationFacts(operation), neighbourFacts(operation), measureFacts(operation)].filter(Boolean) : []),
    imageFacts(),
    runFacts(),
  );
}

/** A heading and rows of [name, value]; a value is text or an element. Rows without a value are left out. */
function factSection(title, rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value.length !== 0);
  if (!known.length) return null;
  const entries = known.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", {}, ...[value].flat())]);
  return element("section", {}, element("h2", { text: title }), element("dl", {}, ...entries));
}

function operationFacts(operation) {
  const { activation } = shown;
  const own = activation?.minuend ?? activation;
  const limits = own && !own.isColor ? pooledExtremes([own]) : [operation.min, operation.max];
  const isKnown = limits[0] !== undefined && limits[0] !== null;
  return factSection("Operation", [
    ["path", operation.path],
    ["kind", operation.kind],
    ["calls", operation.target ?? ""],
    ["shape", formatShape(operation.shape)],
    ["dtype", operation.dtype],
    ["values", isKnown ? `${formatNumber(limits[0], 4)} … ${formatNumber(limits[1], 4)}` : ""],
    ["error", own && !own.isColor ? largestStep(own) : ""],
    ["layout", [operation.layout, operation.layout_reason].filter(Boolean).join(": ")],
    ["source", sourceFact(operation.source)],
    ["remarks", (operation.remarks ?? []).map((each) => element("div", { class: "remark" }, icon("warning"), element("span", { text: each })))],
  ]);
}

/** The error of the values that the page reads. */
function largestStep(activation) {
  let most = 0;
  for (let channel = 0; channel < activation.channels; channel += 1) {
    most = Math.max(most, (activation.high[channel] - activation.low[channel]) / activation.levels / 2);
  }
  return `± ${formatNumber(most, 2)} or less, half a level of a channel's scale`;
}

function sourceFact(source) {
  if (!source) return "";
  const line = element("div", { class: "mono", text: `${source.file}:${source.line}` });
  return source.text ? [line, element("code", { class: "source-text", text: source.text.trim() })] : [line];
}

function neighbourFacts(operation) {
  const model = graphModel(currentRun());
  const position = model.positions.get(operation.path);
  const links = (positions) =>
    positions.map((each) => {
      const { path } = model.operations[each];
      return button(path, `Go to ${path}`, () => chooseOperation(path), { class: "link" });
    });
  return factSection(currentRun().chain ? "Neighbours (in order: this run has no graph)" : "Edges", [
    ["from", links(model.before[position])],
    ["to", links(model.after[position])],
  ]);
}

function measureFacts(operation) {
  const rows = measureNames().map((name) => {
    const numbers = measureNumbers(name, operation.path);
    const summary = measureSummary(name, operation.path);
    if (!summary) return [name, ""];
    const text = numbers.length === 1 ? formatNumber(numbers[0]) : `mean ${formatNumber(summary.mean)}, highest ${formatNumber(summary.most)}`;
    return [name, [element("div", { text }), element("div", { class: "muted small", text: measureReading(name) })]];
  });
  return factSection("Measures", rows);
}

function imageFacts() {
  const image = currentImage();
  if (!image) return "";
  return factSection("Image", [
    ["name", image.name],
    ["file", image.source],
    ["size", image.size ? formatShape(image.size) : ""],
  ]);
}

function runFacts() {
  const run = currentRun();
  const { model = {}, recipe, settings = {}, trace = {} } = run;
  return factSection("Run", [
    ["model", [model.class, model.source].filter(Boolean).join(" from ")],
    ["weights", model.weights],
    ["SHA-256", model.weights_sha256 ? element("span", { class: "mono", title: model.weights_sha256, text: model.weights_sha256.slice(0, 16) }) : ""],
    ["stopped", run.interrupted ? "this run was stopped, and shows the images that were finished" : ""],
    ["check", run.check],
    ["traced", trace.front_end],
    ["settings", listFact(settings, ["measures"])],
    ["recipe", typeof recipe === "string" ? recipe : listFact(recipe ?? {})],
    ["hazards", (run.hazards ?? []).map((text) => element("div", { text }))],
    ["notes", (run.notes ?? []).map((text) => element("div", { text }))],
    ["failed", (run.failed ?? []).map(({ path, reason }) => element("div", { text: `${path}: ${reason}` }))],
    ["written by", `surgery ${run.surgery ?? surgeryPage.version}`],
  ]);
}

function listFact(table, without = []) {
  return Object.entries(table)
    .filter(([name]) => !without.includes(name))
    .map(([name, value]) => element("div", {}, element("span", { class: "muted", text: `${name} ` }), plainText(value)));
}

function plainText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}
