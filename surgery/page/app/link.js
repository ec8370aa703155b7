// The link names what is seen: #op=up3.cat&channel=5&image=facade-1. It follows every change, and is read when it
// changes.
"use strict";

/** Names in the link -> how to write and read them. `image` and `run` are names, not numbers. */
const LINK_PARTS = {
  run: { write: () => (surgeryPage.runs.length > 1 ? currentRun().label : null), read: (text) => ({ run: indexOfName(surgeryPage.runs, "label", text) }) },
  op: { write: () => state.operation, read: (text) => ({ operation: text }) },
  channel: { write: () => state.channel, read: (text) => ({ channel: wholeNumber(text) }) },
  image: { write: () => currentImage()?.name, read: null },
  view: { write: () => unless(state.view, "single"), read: (text) => (isPossible(viewChoices(), text) ? { view: text } : {}) },
  minus: { write: () => (state.view === "difference" ? otherName() : null), read: readOther },
  place: { write: () => state.place?.map((each) => Number(each.toFixed(5))).join(",") ?? null, read: readPlace },
  colors: { write: () => unless(state.colormap, "drawn"), read: (text) => (Object.hasOwn(surgeryPage.colormapTable, text) ? { colormap: text } : {}) },
  reversed: { write: () => (state.isReversed ? 1 : null), read: (text) => ({ isReversed: text === "1" }) },
  scale: { write: () => unless(state.scale, "channel"), read: (text) => (isPossible(SCALE_CHOICES.filter(isPossibleScale), text) ? { scale: text } : {}) },
  clip: { write: () => unless(state.clip, 0), read: (text) => (isPossible(CLIP_CHOICES, text) ? { clip: Number(text) } : {}) },
  zero: { write: () => (state.aroundZero ? 1 : null), read: (text) => ({ aroundZero: text === "1" }) },
  sort: { write: () => unless(state.sort, "number"), read: (text) => (isOrder(text) ? { sort: text, descending: true } : {}) },
  search: { write: () => unless(state.query, ""), read: (text) => ({ query: text }) },
  measure: { write: () => unless(state.measure, ""), read: (text) => (measureNames().includes(text) ? { measure: text, threshold: thresholdOf(text) } : {}) },
};

/** What the link says where it says nothing. */
const LINK_DEFAULTS = { channel: null, place: null, view: "single", colormap: "drawn", isReversed: false, scale: "channel", clip: 0, aroundZero: false, sort: "number", descending: false, query: "", measure: "" };

let writtenLink = "";

function startLink() {
  addEventListener("hashchange", () => {
    if (location.hash === writtenLink) return;
    writtenLink = location.hash;
    readLink();
    queueMicrotask(() => writeLink(new Set())); // behind the changes, which there may be none of
  });
  onChange(writeLink);
}

function unless(value, otherwise) {
  return value === otherwise ? null : value;
}

function indexOfName(list, key, name) {
  return Math.max(0, list.findIndex((each) => each[key] === name));
}

function isPossible(choices, text) {
  return choices.some(([name]) => name === text);
}

/** Whether a text names an order of channels, in any operation. */
function isOrder(text) {
  return SORT_CHOICES.some(([name]) => name === text) || measureNames().some((name) => text === `measure:${name}`);
}

function wholeNumber(text) {
  return /^\d+$/.test(text) ? Number(text) : null;
}

function otherName() {
  const run = surgeryPage.runs[state.otherRun];
  return run === currentRun() ? `image:${run.images[state.otherImage]?.name}` : `run:${run.label}`;
}

function readOther(text) {
  const [kind, name] = [text.slice(0, text.indexOf(":")), text.slice(text.indexOf(":") + 1)];
  if (kind === "run") return { otherRun: indexOfName(surgeryPage.runs, "label", name) };
  return { otherRun: state.run, otherImage: indexOfName(currentRun().images, "name", name) };
}

function readPlace(text) {
  const place = text.split(",").map(Number);
  return place.length === 2 && place.every((each) => each >= 0 && each <= 1) ? { place } : {};
}

/** The link of what is shown. */
function linkText() {
  const parts = [];
  for (const [name, { write }] of Object.entries(LINK_PARTS)) {
    const value = write();
    if (value !== null && value !== undefined) parts.push(`${name}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%3A", ":")}`);
  }
  return `#${parts.join("&")}`;
}

function writeLink(changed) {
  if (changed.size === 1 && changed.has("pointer")) return;
  const text = linkText();
  if (text === writtenLink) return;
  writtenLink = text;
  history.replaceState(null, "", text);
}

/** Show what the link names. Names that the run does not have are left out. */
function readLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  const patch = { ...LINK_DEFAULTS };
  if (given.has("run")) patch.run = LINK_PARTS.run.read(given.get("run")).run;
  const run = surgeryPage.runs[patch.run ?? state.run];
  if (given.has("image")) patch.image = indexOfName(run.images, "name", given.get("image"));
  update(patch);
  for (const [name, { read }] of Object.entries(LINK_PARTS)) {
    if (read && name !== "run" && given.has(name)) update(read(given.get(name)));
  }
  if (!operationOf(run)) update({ operation: firstOperation(run) });
}

/** The operation that is shown at first: the first one that was drawn and is no input. */
function firstOperation(run) {
  const drawn = run.operations.filter((operation) => operation.picture.length);
  return (drawn.find((operation) => operation.kind !== "input") ?? drawn[0] ?? run.operations[0])?.path ?? "";
}
