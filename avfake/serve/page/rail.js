// The list at the side: this session's clips, how far each is, and two of them to compare.

import { h, refill } from "./dom.js";
import { outcomeShape, stage, words } from "./stages.js";
import { t } from "./text.js";

/** Returns {element, mark(key)}; `mark` says which clip is on the page. */
export function rail(context) {
  const { session } = context;
  const rows = new Map();
  const chosen = new Set();
  const items = h("ul", { class: "rail-list" });
  const compare = h(
    "button",
    { type: "button", class: "button rail-compare", disabled: true },
    t("rail.compare"),
  );
  const hint = h("p", { class: "small rail-hint" }, t("rail.hint"));
  const element = h(
    "nav",
    { class: "rail", "aria-label": t("rail.title"), hidden: true },
    h("h2", {}, t("rail.title")),
    items,
    compare,
    hint,
  );
  compare.addEventListener("click", () => {
    const [a, b] = [...chosen];
    location.hash = `#/compare/${a}/${b}`;
  });

  const choose = (entry, on) => {
    if (on) chosen.add(entry.key);
    else chosen.delete(entry.key);
    draw();
  };
  const draw = () => {
    const ready = session.entries.filter((entry) => entry.answered);
    compare.disabled = chosen.size !== 2;
    compare.hidden = hint.hidden = ready.length < 2;
    for (const { check, entry } of rows.values()) {
      check.disabled = chosen.size === 2 && !chosen.has(entry.key);
      check.parentElement.hidden = !entry.answered || ready.length < 2;
    }
  };
  const relist = () => {
    for (const [key, row] of rows) {
      if (session.find(key)) continue;
      row.item.remove();
      rows.delete(key);
      chosen.delete(key);
    }
    for (const entry of session.entries) {
      if (rows.has(entry.key)) continue;
      const row = makeRow(entry, context, choose);
      rows.set(entry.key, row);
      items.append(row.item);
    }
    element.hidden = session.entries.length === 0;
    draw();
  };
  session.addEventListener("list", relist);
  session.addEventListener("change", ({ detail: entry }) => {
    rows.get(entry.key)?.update();
    if (entry.done) draw();
  });
  relist();
  const mark = (keys) => {
    for (const [key, { item, link }] of rows) {
      if (!keys.includes(key)) link.removeAttribute("aria-current");
      else {
        link.setAttribute("aria-current", "page");
        items.scrollTo({ left: item.offsetLeft - 20 }); // a strip on narrow screens
      }
    }
  };
  return { element, mark };
}

function makeRow(entry, context, choose) {
  const state = h("span", { class: "rail-state" });
  const bar = h("span", { class: "rail-bar" });
  const name = h("span", { class: "rail-name" });
  const link = h("a", { href: `#/clip/${entry.key}`, class: "rail-link" }, name, state);
  const check = h("input", {
    type: "checkbox",
    "aria-label": t("rail.choose", { name: entry.name }),
    on: { change: (event) => choose(entry, event.target.checked) },
  });
  const away = h("button", {
    type: "button",
    class: "rail-away",
    on: { click: () => (entry.done ? context.remove(entry) : context.cancel(entry)) },
  });
  const item = h(
    "li",
    {},
    h("label", { class: "rail-check", hidden: true }, check),
    link,
    away,
    bar,
  );
  const update = () => {
    const said = words(entry);
    if (name.textContent !== entry.name) refill(name, entry.name);
    if (state.textContent !== said || entry.done)
      refill(state, entry.done ? outcomeShape(entry) : null, said);
    const share = entry.done ? null : stage(entry).share;
    bar.hidden = share === null;
    bar.style.setProperty("--share", `${100 * (share ?? 0)}%`);
    const label = t(entry.done ? "rail.delete" : "rail.cancel", { name: entry.name });
    if (away.getAttribute("aria-label") !== label) {
      away.setAttribute("aria-label", label);
      away.title = label;
      refill(away, "×");
    }
  };
  update();
  return { item, link, check, entry, update };
}
