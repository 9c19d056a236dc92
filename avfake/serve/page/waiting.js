// A clip that is on its way, and one that did not arrive or could not be judged.

import { h, refill } from "./dom.js";
import { actions } from "./clip.js";
import { facts } from "./facts.js";
import { STEPS, stage } from "./stages.js";
import { bytes, clock, has, number, t } from "./text.js";

const SLOW = 20_000; // milliseconds after which a word about patience is due

/** Returns {element, update, close}; `update()` after every change of the entry. */
export function waitingPage(entry, context) {
  const steps = STEPS.map((name) =>
    h("li", { data: { step: name } }, h("span", {}, t(`step.${name}`))),
  );
  const bar = h("progress", { max: "1", "aria-label": t("waiting.progress") });
  const words = h("p", { class: "stage-words" });
  const patience = h("p", { class: "small patience" });
  const stop = h(
    "button",
    { type: "button", class: "button", on: { click: () => context.cancel(entry) } },
    t("action.cancel"),
  );
  const element = h(
    "article",
    { class: "waiting" },
    h("h1", { class: "clip-name", tabindex: "-1" }, entry.name),
    h("p", { class: "clip-brief" }, bytes(entry.size)),
    h("ol", { class: "steps" }, steps),
    bar,
    words,
    patience,
    h("div", { class: "actions" }, stop),
  );
  let told = "";
  const update = () => {
    const { step, share, words: now } = stage(entry);
    const at = STEPS.indexOf(step);
    steps.forEach((one, index) => {
      one.className = index < at ? "is-done" : index === at ? "is-now" : "";
      if (index === at) one.setAttribute("aria-current", "step");
      else one.removeAttribute("aria-current");
    });
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    refill(words, entry.phase === "held" ? heldFor(entry) : now);
    const spent = entry.since === null ? 0 : Date.now() - entry.since;
    refill(patience, spent > SLOW ? t("waiting.patience", { time: clock(spent / 1000, 0) }) : "");
    if (told !== step)
      context.tell(t("waiting.told", { name: entry.name, step: t(`step.${step}`) }));
    told = step;
  };
  update();
  const timer = setInterval(update, 1000);
  return { element, update, close: () => clearInterval(timer) };
}

function heldFor(entry) {
  const left = Math.max(0, Math.ceil((entry.again - Date.now()) / 1000));
  return t("stage.held_for", { count: left, value: number(left) });
}

/** A clip that was not sent, is gone, or could not be judged: why, and what to do. */
export function faultPage(entry, context) {
  const { result } = entry;
  const fault = result ?? entry.fault;
  const { title, help } = faultWords(fault, context.about);
  return h(
    "article",
    { class: "fault-page" },
    h("h1", { class: "clip-name", tabindex: "-1" }, entry.name),
    h(
      "div",
      { class: "fault", role: "group", "aria-label": title },
      h("h2", {}, title),
      result && fault.message ? h("p", {}, fault.message) : null,
      h("p", {}, help),
    ),
    result
      ? actions(entry, context)
      : h(
          "div",
          { class: "actions" },
          entry.file && fault.reason !== "file_too_large"
            ? h(
                "button",
                {
                  type: "button",
                  class: "button is-main",
                  on: { click: () => context.session.retry(entry) },
                },
                t("action.retry"),
              )
            : null,
          h(
            "button",
            { type: "button", class: "button", on: { click: () => context.forget(entry) } },
            t("action.forget"),
          ),
        ),
    result ? h("div", { class: "cards" }, facts(entry.job, context.about)) : null,
  );
}

/** {title, help} for a reason code; those that a newer server may add have the general words. */
export function faultWords(fault, about) {
  const values = {
    limit: about?.limits.bytes ? bytes(about.limits.bytes) : "",
    code: fault.reason,
  };
  const known = has("faults", fault.reason) ? fault.reason : "other";
  return { title: t(`faults.${known}.title`, values), help: t(`faults.${known}.help`, values) };
}
