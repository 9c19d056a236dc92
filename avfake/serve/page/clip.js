// The page of one judged clip.

import { request } from "./api.js";
import { h, refill } from "./dom.js";
import { brief, credentials, facts, table, warnings } from "./facts.js";
import { heatmap } from "./heatmap.js";
import { Playhead } from "./playhead.js";
import { player } from "./player.js";
import { length } from "./score.js";
import { t } from "./text.js";
import { timeline } from "./timeline.js";
import { branches, meaning, nextSteps, rarity, verdictPanel } from "./verdict.js";

const UNREPORTED = { busy: "action.report_busy", not_found: "action.report_not_found" };

/**
 * `entry` is done and was looked at ("ok" or "abstain"). Returns {element, playhead, close}; `small` is one
 * of two side by side.
 */
export function clipPage(entry, context, { small = false } = {}) {
  const { job, result } = entry;
  const playhead = new Playhead(length(result));
  const film = player(entry, playhead);
  const heat = film.heatButton ? heatmap(entry, playhead) : null;
  film.heatButton?.addEventListener("toggled", (event) => heat.open(event.detail));
  const course =
    playhead.duration > 0 ? timeline(entry, playhead, (words) => context.tell(words)) : null;

  const bench = h(
    "div",
    { class: "bench" },
    small ? null : h("h2", { class: "unseen" }, t("answer")),
    h(
      "div",
      { class: "answer" },
      verdictPanel(result, context.about.thresholds),
      warnings(result),
      branches(result),
    ),
    h("div", { class: "film" }, film.element, heat?.element),
    small || result.status !== "ok" ? null : nextSteps(result),
    course?.element,
  );
  bench.addEventListener("keydown", (event) => {
    if (!course || event.target.matches("input, select, textarea, summary")) return;
    if (event.key === " " && event.target.matches("button, a")) return;
    course.keys(event);
  });

  const element = h(
    small ? "section" : "article",
    { class: small ? "clip is-small" : "clip" },
    heading(entry, small, context),
    bench,
    h(
      "div",
      { class: "cards" },
      small || result.status !== "ok"
        ? null
        : h("div", { class: "worth card" }, meaning(result, context.about), rarity(result)),
      credentials(job.credentials),
      facts(job, context.about),
    ),
    small ? null : table(result),
  );
  const close = () => {
    film.close();
    heat?.close();
    course?.close();
  };
  return { element, playhead, close };
}

function heading(entry, small, context) {
  const { name } = entry;
  if (small) {
    const link = h("a", { href: `#/clip/${entry.key}` }, name);
    return h(
      "header",
      { class: "clip-head" },
      h("h2", { class: "clip-name" }, link),
      h("p", { class: "clip-brief" }, brief(entry.result)),
    );
  }
  return h(
    "header",
    { class: "clip-head" },
    h("h1", { class: "clip-name", tabindex: "-1" }, name),
    h("p", { class: "clip-brief" }, brief(entry.result)),
    actions(entry, context),
  );
}

/** Downloads and deletion: what can be done with an answer, whatever it is. */
export function actions(entry, context) {
  const trouble = h("p", { class: "action-trouble", role: "alert" });
  const stem = entry.name.replace(/\.[^.]*$/, "") || "clip";
  const report = h(
    "button",
    { type: "button", class: "button", on: { click: () => getReport() } },
    t("action.report"),
  );
  const getReport = async () => {
    report.disabled = true;
    refill(trouble);
    refill(report, t("action.reporting"));
    try {
      const answer = await request(`v1/predictions/${entry.job.id}/report`);
      save(await answer.blob(), `${stem}.avfake.html`);
    } catch (fault) {
      refill(trouble, t(UNREPORTED[fault.reason] ?? "action.report_failed"));
    }
    report.disabled = false;
    refill(report, t("action.report"));
  };
  const getFigures = () => {
    const { media, progress, position, ...told } = entry.job;
    save(
      new Blob([JSON.stringify(told, null, 2)], { type: "application/json" }),
      `${stem}.avfake.json`,
    );
  };
  return h(
    "div",
    { class: "actions" },
    report,
    h("button", { type: "button", class: "button", on: { click: getFigures } }, t("action.json")),
    h(
      "button",
      { type: "button", class: "button is-danger", on: { click: () => context.remove(entry) } },
      t("action.delete"),
    ),
    trouble,
  );
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
