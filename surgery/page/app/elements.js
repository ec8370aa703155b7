// HTML elements from JavaScript. Text becomes text nodes, never markup, so that any name is shown as it is.
"use strict";

/**
 * Make an element. `class`, `text`, `style` (custom properties too), `dataset`, `on...` and attributes are options;
 * an attribute that is null, undefined or false is left out.
 */
function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name === "style") setStyle(made, value);
    else if (name === "dataset") Object.assign(made.dataset, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Replace what an element holds. The control that had the focus, by its place among the controls, has it again. */
function replaceContent(target, ...children) {
  const controls = () => [...target.querySelectorAll("button, input, select")];
  const focused = controls().indexOf(document.activeElement);
  target.replaceChildren(...children);
  controls()[focused]?.focus();
}

/** Set style properties, among them custom ones. */
function setStyle(target, properties) {
  for (const [name, value] of Object.entries(properties)) target.style.setProperty(name, value);
}

/** Make an SVG element with attributes. */
function svgElement(tag, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** The element of the page with an id. @returns {HTMLElement} */
function byId(id) {
  return document.getElementById(id);
}

/** A button with text or an icon, a title that says what it does, and what it does. */
function button(text, title, onclick, options = {}) {
  return element("button", { type: "button", text, title, "aria-label": title, onclick, ...options });
}

/** A select of [value, text] pairs or of groups {label, options}. */
function selectBox(label, choices, value, onchange) {
  const option = ([choice, text, disabled]) =>
    element("option", { value: choice, text, selected: choice === value, disabled: disabled || null });
  const entries = choices.map((choice) =>
    Array.isArray(choice) ? option(choice) : element("optgroup", { label: choice.label }, ...choice.options.map(option)),
  );
  const box = element("select", { "aria-label": label, title: label, onchange: () => onchange(box.value) }, ...entries);
  return box;
}

/** Icons of 16 x 16 pixels, drawn as lines. */
const ICON_PATHS = {
  previous: "M10 3 5 8l5 5",
  next: "M6 3l5 5-5 5",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9M10.5 10.5 14 14",
  close: "M4 4l8 8M12 4l-8 8",
  up: "M3 10l5-5 5 5",
  down: "M3 6l5 5 5-5",
  warning: "M8 2 14.5 13.5h-13zM8 6.5v3.2M8 11.4v.6",
  graph: "M3 3h4v3H3zM9 10h4v3H9zM5 6v5.5h4",
  tiles: "M2.5 2.5h4.5v4.5h-4.5zM9 2.5h4.5v4.5h-4.5zM2.5 9h4.5v4.5h-4.5zM9 9h4.5v4.5h-4.5z",
  facts: "M3 4h10M3 8h10M3 12h6",
  brightest: "M8 3v10M3.5 7.5 8 3l4.5 4.5",
  darkest: "M8 3v10M3.5 8.5 8 13l4.5-4.5",
  reverse: "M3 5.5h9l-2.5-2.5M13 10.5H4l2.5 2.5",
  sliders: "M2.5 5h6M12 5h1.5M8.5 3.2v3.6h3.5v-3.6zM2.5 11h1.5M7.5 11h6M4 9.2v3.6h3.5v-3.6z",
  fold: "M4 6l4 4 4-4",
};

/** An icon, hidden from screen readers. */
function icon(name) {
  const picture = svgElement("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" });
  picture.append(svgElement("path", { d: ICON_PATHS[name] }));
  return picture;
}

/** A button with an icon. */
function iconButton(name, title, onclick, options = {}) {
  const made = button("", title, onclick, options);
  made.classList.add("icon-button");
  made.append(icon(name));
  return made;
}
