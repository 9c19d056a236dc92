// Elements without markup strings: whatever comes from a file can only ever become text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element. `properties`: attributes by name; `on` holds listeners, `data` data-attributes;
 * true sets an empty attribute, false, null and undefined set none. `children`: nodes, strings,
 * numbers, lists of them; null and false are left out.
 */
export function h(tag, properties = {}, ...children) {
  return made(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  return made(document.createElementNS(SVG, tag), properties, children);
}

function made(element, { on = {}, data = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  fill(element, children);
  return element;
}

/** Put `children` in place of what the element holds. */
export function refill(element, ...children) {
  element.replaceChildren();
  fill(element, children);
  return element;
}

function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

const ICONS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  back: "M18 5.5v13L9 12zM6 5.5h2v13H6z",
  forward: "M6 5.5v13L15 12zM16 5.5h2v13h-2z",
  sound:
    "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z" +
    "M14.5 8.2v1.9a2.4 2.4 0 0 1 0 3.8v1.9a4.2 4.2 0 0 0 0-7.6z",
  silent:
    "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z" +
    "M14.6 9.6l1.2-1.2 2.2 2.2 2.2-2.2 1.2 1.2L19.2 11.8l2.2 2.2-1.2 1.2-2.2-2.2-2.2 2.2-1.2-1.2 2.2-2.2z",
  whole: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  up: "M12 4l6 6-1.4 1.4L13 7.8V16h-2V7.8l-3.6 3.6L6 10zM5 18h14v2H5z",
};

export function icon(name) {
  const path = svg("path", { d: ICONS[name] });
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    path,
  );
}

// One shape a level, so that no answer is told by colour alone.
const SHAPES = {
  fake: "M12 3l10 18H2z",
  unsure: "M12 2l10 10-10 10L2 12zM12 6.2L6.2 12 12 17.8 17.8 12z",
  real: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18z",
  none: "M3 10.5h18v3H3z",
};

export function shape(level) {
  return svg(
    "svg",
    { class: `shape is-${level}`, viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: SHAPES[level], "fill-rule": "evenodd" }),
  );
}

/** Colour an element by a probability: how far it leans to one side (see .toned in the styles). */
export function tone(element, probability) {
  const lean = probability === null ? 0 : Math.min(1, Math.abs(probability - 0.5) / 0.35);
  element.classList.add("toned");
  element.classList.toggle("leans-fake", probability !== null && probability >= 0.5);
  element.style.setProperty("--lean", `${Math.round(100 * lean)}%`);
  return element;
}
