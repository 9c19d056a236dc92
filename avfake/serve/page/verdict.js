// The answer: in words, as a figure, on a scale, and what it means where fakes are rarer.

import { h, refill, shape, svg, tone } from "./dom.js";
import { openGuide } from "./guide.js";
import { WEAK_MATCH, inWorld, verdict } from "./score.js";
import { list, named, number, percent, t } from "./text.js";

const OFFSET = 320; // milliseconds at the ends of its scale
const OFFSET_ERROR = 80; // milliseconds: see the model card
const WORLDS = [2, 3, 5, 10, 20, 50, 100, 200, 500, 1000]; // one clip in so many is a fake

/** Verdict, probability and scale. `thresholds`: {likely_real, likely_fake}. */
export function verdictPanel(result, thresholds) {
  if (result.status !== "ok") {
    return h(
      "div",
      { class: "verdict is-none" },
      h("p", { class: "verdict-name" }, shape("none"), t("verdict.none.name")),
      h("p", { class: "verdict-means" }, t("verdict.none.means")),
    );
  }
  const called = verdict(result);
  const probability = result.fake_probability;
  return h(
    "div",
    { class: `verdict is-${called}` },
    h("p", { class: "verdict-name" }, shape(called), t(`verdict.${called}.name`)),
    h(
      "p",
      { class: "verdict-figure" },
      h("strong", {}, percent(probability)),
      " ",
      h("span", {}, t("verdict.figure")),
    ),
    scale(probability, thresholds),
    h("p", { class: "verdict-means" }, t(`verdict.${called}.means`)),
  );
}

/** From 0 to 1, with the zones that the words stand for. The words beside it say it all. */
function scale(probability, { likely_real: low, likely_fake: high }) {
  const zone = (level, start, end) => {
    const part = h(
      "span",
      { class: `zone is-${level}` },
      h("span", {}, t(`verdict.${level}.name`)),
    );
    part.style.flexGrow = String(end - start);
    return part;
  };
  const marker = h("span", { class: "marker" });
  marker.style.left = `${100 * probability}%`;
  return h(
    "div",
    { class: "scale", "aria-hidden": "true" },
    h(
      "div",
      { class: "zones" },
      zone("real", 0, low),
      zone("unsure", low, high),
      zone("fake", high, 1),
      marker,
    ),
  );
}

/** What to do with such an answer. */
export function nextSteps(result) {
  return h(
    "div",
    { class: "next-steps" },
    h("h3", {}, t("meaning.next")),
    h(
      "ol",
      {},
      list(`verdict.${verdict(result)}.next`).map((step) => h("li", {}, step)),
    ),
  );
}

/** What the answer means, what it does not, and how far its models can be trusted. */
export function meaning(result, about) {
  const called = verdict(result);
  const trust =
    about.shipped
      ? list("guide.models.text").slice(0, 2).join(" ")
      : t("guide.own", { name: about.bundle.name });
  return h(
    "section",
    { class: "meaning" },
    h("h3", {}, t("meaning.title")),
    ["does", "does_not"].map((part) =>
      h("div", {}, h("h4", {}, t(`meaning.${part}`)), h("p", {}, t(`verdict.${called}.${part}`))),
    ),
    h(
      "div",
      {},
      h("h4", {}, t("meaning.trust")),
      h("p", {}, trust),
      h(
        "button",
        { type: "button", class: "quiet", on: { click: () => openGuide(about) } },
        t("guide.title"),
      ),
    ),
  );
}

/** The calculator of rarer fakes. */
export function rarity(result) {
  const probability = result.fake_probability;
  const grid = dots();
  const told = h("p", { class: "rarity-told", "aria-live": "polite" });
  const label = h("span", { class: "rarity-world" });
  const slider = h("input", {
    type: "range",
    min: 0,
    max: WORLDS.length - 1,
    step: 1,
    value: 0,
    "aria-label": t("rarity.label"),
    on: { input: () => show() },
  });
  const show = () => {
    const among = WORLDS[Number(slider.value)];
    const share = inWorld(probability, among);
    const count = Math.round(100 * share);
    slider.setAttribute("aria-valuetext", t("rarity.world", { value: number(among) }));
    refill(label, t("rarity.world", { value: number(among) }));
    const few = count === 0 ? t("rarity.fewer") : t("rarity.told", { count, value: number(count) });
    refill(told, few, among === 2 ? ` ${t("rarity.same")}` : "");
    [...grid.children].forEach((dot, index) => dot.classList.toggle("is-fake", index < count));
  };
  show();
  return h(
    "section",
    { class: "rarity" },
    h("h3", {}, t("rarity.title")),
    h("p", {}, t("rarity.why")),
    h("label", { class: "rarity-slider" }, label, slider),
    grid,
    told,
    h("p", { class: "small" }, t("rarity.caution")),
  );
}

/** A hundred clips: fakes are squares, the others rings. */
function dots() {
  const places = Array.from({ length: 100 }, (_, index) => [index % 20, Math.floor(index / 20)]);
  return svg(
    "svg",
    { class: "dots", viewBox: "0 0 200 50", "aria-hidden": "true", focusable: "false" },
    places.map(([x, y]) =>
      svg(
        "g",
        { class: "dot", transform: `translate(${10 * x + 5} ${10 * y + 5})` },
        svg("circle", { r: "2.7" }),
        svg("rect", { x: "-3.3", y: "-3.3", width: "6.6", height: "6.6", rx: "0.8" }),
      ),
    ),
  );
}

/** One bar a branch, with what it measured or why it is silent. */
export function branches(result) {
  const rows = ["visual", "audio", "lipsync"]
    .filter((name) => result.branches[name])
    .map((name) => {
      const score = result.branches[name];
      return h(
        "li",
        { class: `branch is-${score.status}` },
        h("div", { class: "branch-name" }, t(`branch.${name}.name`)),
        score.status === "ok"
          ? meter(score.fake_probability)
          : h("div", { class: "meter is-absent", "aria-hidden": "true" }),
        h(
          "div",
          { class: "branch-value" },
          score.status === "ok" ? percent(score.fake_probability) : "–",
        ),
        h("div", { class: "branch-note" }, note(name, score)),
        score.offset_ms === undefined ? null : offset(score.offset_ms),
      );
    });
  return h("div", { class: "branches" }, h("h3", {}, t("branch.title")), h("ul", {}, rows));
}

function meter(probability) {
  const bar = tone(h("span", { class: "meter-bar" }), probability);
  bar.style.width = `${100 * probability}%`;
  return h("div", { class: "meter", "aria-hidden": "true" }, bar);
}

function note(name, score) {
  if (score.status !== "ok") return why(score);
  if (name !== "lipsync" || score.offset_ms === undefined) return t(`branch.${name}.looks`);
  const size = Math.round(Math.abs(score.offset_ms));
  const key = size < 20 ? "on_time" : score.offset_ms > 0 ? "late" : "early";
  const measured = t(`offset.${key}`, { size: number(size) });
  return score.confidence < WEAK_MATCH ? t("offset.weak", { offset: measured }) : measured;
}

/** By how much the sound is early or late, on a scale; the band is what may be mere measuring error. */
function offset(ms) {
  const across = (value) => `${50 + (50 * Math.max(-OFFSET, Math.min(OFFSET, value))) / OFFSET}%`;
  const marker = h("span", { class: "offset-marker" });
  const band = h("span", { class: "offset-band" });
  marker.style.left = across(ms);
  band.style.left = across(-OFFSET_ERROR);
  band.style.right = across(-OFFSET_ERROR);
  return h(
    "div",
    { class: "offset", "aria-hidden": "true" },
    h("div", { class: "offset-axis" }, band, marker),
    h(
      "div",
      { class: "offset-ends" },
      h("span", {}, t("offset.early_end")),
      h("span", {}, t("offset.late_end")),
    ),
  );
}

/** Why a branch has no answer, in words. */
export function why(score) {
  return named("absent", score.reason) ?? t("absent.other");
}
