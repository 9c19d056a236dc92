// Two clips side by side: an original and what was made of it, say.

import { clipPage } from "./clip.js";
import { h, refill } from "./dom.js";
import { t } from "./text.js";

/** Returns {element, close}. Both entries have an answer. */
export function comparePage(first, second, context) {
  const pages = [first, second].map((entry) => clipPage(entry, context, { small: true }));
  const heads = pages.map((page) => page.playhead);
  const playing = () => heads.some((head) => head.playing);
  const both = h("button", { type: "button", class: "button is-main" }, t("compare.play"));
  both.addEventListener("click", () => {
    const stop = playing();
    for (const head of heads) if (head.playing === stop) head.toggle();
  });
  const start = h("button", { type: "button", class: "button" }, t("compare.start"));
  start.addEventListener("click", () => heads.forEach((head) => head.seek(0)));
  for (const head of heads) {
    head.addEventListener("state", () =>
      refill(both, t(playing() ? "compare.pause" : "compare.play")),
    );
  }
  const element = h(
    "article",
    { class: "compare" },
    h(
      "header",
      { class: "clip-head" },
      h("h1", { tabindex: "-1" }, t("compare.title")),
      h("div", { class: "actions" }, both, start),
    ),
    h(
      "div",
      { class: "compare-pair" },
      pages.map((page) => page.element),
    ),
    h("p", { class: "small" }, t("compare.caution")),
  );
  return { element, close: () => pages.forEach((page) => page.close()) };
}
