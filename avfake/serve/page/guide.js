// "How to read this": what the answer is made of, and where it is known to fail.

import { h } from "./dom.js";
import { list, percent, t } from "./text.js";

/** The guide's sections; `level`: of their headings. */
export function guide(about, level = "h3") {
  const { likely_real: low, likely_fake: high } = about.thresholds;
  return [
    h(
      "section",
      {},
      h(level, {}, t("guide.answer.title")),
      list("guide.answer.text").map((_, index) =>
        h("p", {}, t(`guide.answer.text.${index}`, { low: percent(low), high: percent(high) })),
      ),
    ),
    h(
      "section",
      {},
      h(level, {}, t("guide.failures.title")),
      h(
        "ul",
        {},
        list("guide.failures.text").map((text) => h("li", {}, text)),
      ),
    ),
    about.shipped
      ? h(
          "section",
          {},
          h(level, {}, t("guide.models.title")),
          h(
            "ul",
            {},
            list("guide.models.text").map((text) => h("li", {}, text)),
          ),
        )
      : h(
          "section",
          {},
          h(level, {}, t("guide.models.title")),
          h("p", {}, t("guide.own", { name: about.bundle.name })),
        ),
    h(
      "section",
      {},
      h(level, {}, t("guide.practice.title")),
      h(
        "ul",
        {},
        list("guide.practice.text").map((text) => h("li", {}, text)),
      ),
    ),
  ];
}

/** The same over the page. */
export function openGuide(about) {
  const close = h("button", { type: "button", class: "button is-main" }, t("action.close"));
  const dialog = h(
    "dialog",
    { class: "guide-dialog", "aria-labelledby": "guide-title" },
    // Scrolled with the keys at once: what is to be read has the focus.
    h(
      "div",
      { class: "guide-text", tabindex: "0", role: "region", "aria-labelledby": "guide-title" },
      h("h2", { id: "guide-title" }, t("guide.title")),
      guide(about),
    ),
    h("div", { class: "actions" }, close),
  );
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
