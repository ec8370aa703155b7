// The top: image and run, side by side and difference, scale, colormap, theme.
"use strict";

const SCALE_CHOICES = [
  ["channel", "scale: channel"],
  ["operation", "scale: operation"],
  ["images", "scale: all images"],
  ["runs", "scale: all runs"],
];
const CLIP_CHOICES = [
  ["0", "all values"],
  ["0.5", "0.5–99.5 %"],
  ["1", "1–99 %"],
  ["2", "2–98 %"],
  ["5", "5–95 %"],
];

function startToolbar() {
  onChange((changed) => {
    const names = ["run", "image", "view", "otherRun", "otherImage", "scale", "clip", "aroundZero", "colormap", "isReversed", "shown"];
    const isDifference = state.view === "difference" && hasChanged(changed, "run", "image", "view", "otherRun", "otherImage");
    if (isDifference && state.otherRun === state.run && state.otherImage === state.image) update(anotherThanShown());
    if (hasChanged(changed, ...names)) drawToolbar();
  });
}

function drawToolbar() {
  const { runs } = surgeryPage;
  const run = currentRun();
  if (byId("toolbar").querySelector("input[type=range]:active")) return; // a new slider would not follow the pointer
  replaceContent(
    byId("toolbar"),
    element("div", { class: "brand", title: `surgery ${surgeryPage.version}` }, element("strong", { text: runs.length > 1 ? "surgery" : run.label })),
    ...(runs.length > 1 ? [stepper("Run", runs.map((each) => each.label), state.run, (index) => chooseRun(index), "< >")] : []),
    stepper("Image", run.images.map((each) => each.name), state.image, (image) => update({ image }), "[ ]"),
    drawingToggle(),
    element(
      "div",
      { id: "drawing" },
      viewControl(),
      element("span", { class: "spring" }),
      selectBox("What shares a scale", SCALE_CHOICES.filter(isPossibleScale), state.scale, (scale) => update({ scale })),
      selectBox("Values on the scale", CLIP_CHOICES, String(state.clip), (clip) => update({ clip: Number(clip) })),
      zeroToggle(),
      colormapControl(),
      iconButton("theme", "Dark or light (T)", toggleTheme),
      button("?", "Keys (?)", showKeys, { class: "icon-button" }),
    ),
  );
}

/** On a phone: shows what is compared, the scale and the colors, which are hidden at first. */
function drawingToggle() {
  const toggle = () => {
    const isOpen = byId("toolbar").classList.toggle("is-open");
    made.setAttribute("aria-expanded", String(isOpen));
  };
  const isOpen = byId("toolbar").classList.contains("is-open");
  const made = iconButton("sliders", "Comparison, scale and colors", toggle, { "aria-expanded": String(isOpen), "aria-controls": "drawing" });
  made.classList.add("drawing-toggle");
  return made;
}

function isPossibleScale([scale]) {
  if (scale === "images") return currentRun().images.length > 1;
  return scale !== "runs" || surgeryPage.runs.length > 1;
}

/** Previous, a list, next, and a slider if there are many. */
function stepper(label, names, index, choose, keys) {
  const options = names.map((name, position) => [String(position), name]);
  const few = names.length < 2;
  const list = few ? element("span", { class: "single", text: names[0] ?? "no image" }) : selectBox(label, options, String(index), (value) => choose(Number(value)));
  const slider = element("input", {
    type: "range",
    min: 0,
    max: names.length - 1,
    value: index,
    "aria-label": `${label} slider`,
    title: `${label} ${index + 1} of ${names.length}`,
    oninput: () => {
      list.value = slider.value;
      choose(Number(slider.value));
    },
    onchange: () => requestAnimationFrame(drawToolbar), // when the pointer has let go
  });
  return element(
    "div",
    { class: "stepper", role: "group", "aria-label": label },
    few ? null : iconButton("previous", `Previous ${label.toLowerCase()} (${keys[0]})`, () => choose(clamp(index - 1, 0, names.length - 1))),
    list,
    few ? null : iconButton("next", `Next ${label.toLowerCase()} (${keys.at(-1)})`, () => choose(clamp(index + 1, 0, names.length - 1))),
    names.length > 2 ? slider : null,
  );
}

/** Show another run: the same operation and the image of the same name, where it has them. */
function chooseRun(index) {
  const run = surgeryPage.runs[index];
  const name = currentImage()?.name;
  const image = Math.max(0, run.images.findIndex((each) => each.name === name));
  const isOfRuns = state.otherRun !== state.run;
  const otherRun = isOfRuns ? (index === state.otherRun ? state.run : state.otherRun) : index;
  update({ run: index, image, otherRun });
}

/** What can be shown at once: one activation, several, or a difference. @returns {[string, string][]} */
function viewChoices() {
  const [images, runs] = [currentRun().images.length, surgeryPage.runs.length];
  return [
    ["single", "one at a time"],
    ...(images > 1 ? [["images", "images side by side"]] : []),
    ...(runs > 1 ? [["runs", "runs side by side"]] : []),
    ...(images > 1 || runs > 1 ? [["difference", "difference"]] : []),
  ];
}

/** Single, side by side, difference; and what is subtracted. */
function viewControl() {
  const choices = viewChoices();
  if (choices.length < 2) return "";
  const select = selectBox("View", choices, state.view, chooseView);
  if (state.view !== "difference") return select;
  const others = [];
  surgeryPage.runs.forEach((run, index) => {
    if (index !== state.run) others.push([`run:${index}`, `− run ${run.label}`]);
  });
  currentRun().images.forEach((image, index) => {
    if (index !== state.image) others.push([`image:${index}`, `− image ${image.name}`]);
  });
  const now = state.otherRun === state.run ? `image:${state.otherImage}` : `run:${state.otherRun}`;
  return element("div", { class: "stepper" }, select, selectBox("Subtracted", others, now, chooseOther));
}

function chooseView(view) {
  update(view === "difference" ? { view, ...anotherThanShown() } : { view });
}

/** Another run, or another image if there is one run, to subtract at first. */
function anotherThanShown() {
  if (surgeryPage.runs.length > 1) return { otherRun: state.run ? 0 : 1 };
  return { otherRun: state.run, otherImage: state.image ? 0 : 1 };
}

function chooseOther(value) {
  const [kind, index] = value.split(":");
  update(kind === "run" ? { otherRun: Number(index) } : { otherRun: state.run, otherImage: Number(index) });
}

function zeroToggle() {
  const box = element("input", { type: "checkbox", checked: state.aroundZero, "aria-label": "Symmetric around zero", onchange: () => update({ aroundZero: box.checked }) });
  return element("label", { class: "check", title: "The scale is symmetric around zero (0)" }, box, element("span", { text: "± 0" }));
}

const COMMON_COLORMAPS = ["viridis", "magma", "inferno", "cividis", "gray", "batlow", "turbo", "vik", "balance", "berlin", "twilight"];

/** The colormaps by category, after the common ones, with a swatch of the chosen one. */
function colormapControl() {
  const groups = new Map([["common", COMMON_COLORMAPS.filter((name) => name in surgeryPage.colormapTable).map((name) => [name, name])]]);
  for (const [name, [category]] of Object.entries(surgeryPage.colormapTable)) {
    if (category === "qualitative" || COMMON_COLORMAPS.includes(name)) continue; // the former have no order
    groups.set(category, [...(groups.get(category) ?? []), [name, name]]);
  }
  const choices = [["drawn", "as drawn"], ...[...groups].map(([label, options]) => ({ label, options }))];
  const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
  if (shown.activation) swatch.style.background = gradientOf(colorsFor(shown.activation));
  const select = selectBox("Colormap", choices, state.colormap, (colormap) => update({ colormap }));
  const reverse = iconButton("reverse", "Reverse the colors (R)", () => update({ isReversed: !state.isReversed }), { "aria-pressed": String(state.isReversed) });
  return element("div", { class: "stepper", role: "group", "aria-label": "Colors" }, swatch, select, reverse);
}

/** Go to the next or the previous of the common colormaps. */
function stepColormap(step) {
  const names = ["drawn", ...COMMON_COLORMAPS.filter((name) => name in surgeryPage.colormapTable)];
  const now = Math.max(0, names.indexOf(state.colormap));
  update({ colormap: names[(now + step + names.length) % names.length] });
}

function toggleTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (isDark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}
