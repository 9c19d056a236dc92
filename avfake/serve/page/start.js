// Where it begins: a place for a clip, a sample for who has none, and how to read what comes.

import { guide } from "./guide.js";
import { h, icon, refill } from "./dom.js";
import { bytes, spoken, t } from "./text.js";

export function startPage(context) {
  const { about, session } = context;
  const chooser = h("input", {
    type: "file",
    class: "unseen",
    multiple: true,
    tabindex: "-1",
    "aria-hidden": "true",
    accept: "video/*,audio/*,image/*,.mkv,.avi,.mpg,.mts",
  });
  chooser.addEventListener("change", () => {
    context.take([...chooser.files]);
    chooser.value = "";
  });
  const trouble = h("p", { class: "action-trouble", role: "alert" });
  const choose = h(
    "button",
    { type: "button", class: "button is-main is-large", on: { click: () => chooser.click() } },
    t("start.choose"),
  );
  const sample = h("button", { type: "button", class: "button is-large" }, t("start.sample"));
  sample.addEventListener("click", async () => {
    sample.disabled = true;
    refill(trouble);
    try {
      context.open(await session.addSample());
    } catch (fault) {
      sample.disabled = false;
      refill(trouble, context.faultTitle(fault));
    }
  });
  const { seconds } = about.limits;
  const limits = [
    t("start.limits", { size: bytes(about.limits.bytes) }),
    seconds === null ? "" : t("start.longest", { time: spoken(seconds) }),
  ].join(" ");
  return h(
    "article",
    { class: "start" },
    h("h1", { tabindex: "-1" }, t("start.title")),
    h("p", { class: "lead" }, t("start.lead")),
    h(
      "div",
      { class: "drop" },
      icon("up"),
      h("p", { class: "drop-words" }, t("start.drop")),
      h("div", { class: "actions" }, choose, sample),
      h("p", { class: "small" }, limits),
      trouble,
      chooser,
    ),
    h(
      "ul",
      { class: "looks" },
      ["visual", "audio", "lipsync"].map((name) =>
        h("li", {}, h("h2", {}, t(`branch.${name}.name`)), h("p", {}, t(`branch.${name}.about`))),
      ),
    ),
    h(
      "section",
      { class: "guide" },
      h("h2", {}, t("guide.title")),
      h("div", { class: "guide-parts" }, guide(about)),
    ),
  );
}
