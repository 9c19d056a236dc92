// What is known of the file and of what judged it; and what the file says of itself.

import { h } from "./dom.js";
import { bytes, clock, list, moment, named, number, percent, t } from "./text.js";

/** Warnings in words: they limit what the answer is for. */
export function warnings(result) {
  if (!result.warnings.length) return null;
  return h(
    "ul",
    { class: "warnings", "aria-label": t("warning_title") },
    result.warnings.map((code) =>
      h("li", {}, named("warnings", code) ?? t("warning_other", { code })),
    ),
  );
}

export function facts(job, about) {
  const { result } = job;
  const { bundle } = result;
  return h(
    "section",
    { class: "facts card" },
    h("h3", {}, t("facts.title")),
    h(
      "dl",
      {},
      mediaFacts(result.media).map(([name, value]) => fact(t(`facts.${name}`), value)),
      fact(t("facts.size"), bytes(job.size)),
      fact(
        t("facts.bundle"),
        t("facts.bundle_value", { name: bundle.name ?? "?", version: bundle.version ?? "?" }),
      ),
      fact(t("facts.program"), t("facts.program_value", { version: about.version })),
      result.seconds.total === undefined
        ? null
        : fact(
            t("facts.took"),
            t("facts.seconds", { value: number(Math.max(0.1, result.seconds.total), 1) }),
          ),
      fact(t("facts.sha256"), hash(job.sha256)),
      fact(t("facts.bundle_sha256"), hash(bundle.sha256)),
    ),
  );
}

/** One line under the title. */
export function brief(result) {
  return mediaFacts(result.media)
    .filter(([name]) => name !== "rotation" && name !== "rate")
    .map(([, value]) => value)
    .join(" · ");
}

function mediaFacts(media) {
  if (!media) return [];
  const found = [];
  if (media.duration) found.push(["duration", clock(media.duration)]);
  if (media.width)
    found.push(["picture", t("facts.pixels", { width: media.width, height: media.height })]);
  if (media.fps) found.push(["fps", t("facts.fps_value", { value: number(media.fps, 2) })]);
  const codecs = [media.video_codec, media.audio_codec].filter(Boolean);
  if (codecs.length) found.push(["codecs", codecs.join(" + ")]);
  if (media.sample_rate)
    found.push(["rate", t("facts.rate_value", { value: number(media.sample_rate) })]);
  if (media.rotation)
    found.push(["rotation", t("facts.rotation_value", { value: media.rotation })]);
  return found;
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function hash(value) {
  return h("code", { class: "hash" }, value ?? "?");
}

/** Content Credentials, beside the score: what a signed manifest in the file says. */
export function credentials(said) {
  if (!said || said.status === "not_installed") return null;
  const remote = said.status === "remote"; // its problem is where they lie
  const rows = [
    ["signer", said.signer],
    ["organisation", said.organisation],
    ["signed", said.signed && moment(said.signed)],
    ["tool", said.tool],
    ["ingredients", said.ingredients ? number(said.ingredients) : null],
    ["address", remote ? said.problems[0] : null],
  ].filter(([, value]) => value);
  return h(
    "section",
    { class: "credentials card" },
    h("h3", {}, t("credentials.title")),
    h(
      "p",
      { class: "credentials-status" },
      named("credentials.status", said.status) ?? said.message,
    ),
    rows.length
      ? h(
          "dl",
          {},
          rows.map(([name, value]) => fact(t(`credentials.${name}`), value)),
        )
      : null,
    said.actions.length
      ? h(
          "div",
          {},
          h("h4", {}, t("credentials.actions")),
          h(
            "ul",
            {},
            said.actions.map((action) =>
              h(
                "li",
                {},
                [
                  action.words,
                  action.source,
                  action.tool,
                  action.when && moment(action.when),
                ]
                  .filter(Boolean)
                  .join(" · "),
              ),
            ),
          ),
        )
      : null,
    said.problems.length && !remote
      ? h(
          "div",
          {},
          h("h4", {}, t("credentials.problems")),
          h(
            "ul",
            {},
            said.problems.map((problem) => h("li", {}, problem)),
          ),
        )
      : null,
    said.status === "none" ? null : h("p", { class: "small" }, t("credentials.apart")),
  );
}

/** Every figure of the timeline as a table, made when it is opened; null where there is none. */
export function table(result) {
  if (!Object.values(result.branches).some((score) => score.windows.length)) return null;
  const label = t("table.title");
  // Scrolled with the keys, too.
  const place = h("div", {
    class: "table-place",
    tabindex: "0",
    role: "region",
    "aria-label": label,
  });
  const details = h("details", { class: "figures" }, h("summary", {}, label), place);
  details.addEventListener("toggle", () => {
    if (details.open && !place.hasChildNodes()) place.append(figures(result));
  });
  return details;
}

function figures(result) {
  const rows = Object.entries(result.branches).flatMap(([branch, score]) =>
    score.windows.map((window) =>
      h(
        "tr",
        {},
        h("td", {}, t(`branch.${branch}.name`)),
        h("td", {}, window.track === null ? "" : t("face", { index: window.track + 1 })),
        h("td", { class: "is-number" }, clock(window.start)),
        h("td", { class: "is-number" }, clock(window.end)),
        h("td", { class: "is-number" }, percent(window.fake_probability)),
      ),
    ),
  );
  const heads = list("table.heads").map((name) => h("th", { scope: "col" }, name));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
}
