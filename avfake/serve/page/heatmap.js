// Where the picture branch saw what it takes for a sign of forging, for one face at one moment.

import { request } from "./api.js";
import { h, refill, shape } from "./dom.js";
import { boxAt, level } from "./score.js";
import { clock, percent, t } from "./text.js";

const PAUSE = 250; // milliseconds that the playhead stands still before a map is asked for

/** Returns {element, open(on), close}. It is made for the playhead's moment, anew when that moves. */
export function heatmap(entry, playhead) {
  const { result } = entry.job;
  const body = h("div", { class: "heat-body" });
  const choice = h("div", { class: "choice", role: "radiogroup", "aria-label": t("heat.choice") });
  const element = h(
    "section",
    { class: "heat", hidden: true, "aria-label": t("heat.title") },
    h("div", { class: "heat-head" }, h("h3", {}, t("heat.title")), choice),
    body,
  );
  let chosen = null; // the face asked for last
  let shown = ""; // what the picture shows
  let stop = new AbortController();
  let timer = 0;

  const ask = async () => {
    if (element.hidden || playhead.playing) return;
    const present = result.tracks.filter((track) => boxAt(track, playhead.time) !== null);
    const track = present.find((one) => one.track === chosen) ?? present[0];
    offer(present, track);
    if (track === undefined) {
      shown = "";
      refill(body, h("p", { class: "note" }, t("heat.none")));
      return;
    }
    const wanted = `${track.track}@${playhead.time.toFixed(2)}`;
    if (wanted === shown) return;
    shown = wanted;
    stop.abort();
    stop = new AbortController();
    element.setAttribute("aria-busy", "true");
    if (!body.querySelector("img")) refill(body, h("p", { class: "note" }, t("heat.loading")));
    try {
      await show(track);
    } catch (fault) {
      if (fault.name === "AbortError") return;
      shown = "";
      refill(
        body,
        h("p", { class: "note" }, t(fault.reason === "busy" ? "heat.busy" : "heat.failed")),
      );
    }
    element.removeAttribute("aria-busy");
  };

  const show = async (track) => {
    const wanted = new URLSearchParams({ track: track.track, time: playhead.time.toFixed(3) });
    const address = `v1/predictions/${entry.job.id}/heatmap?${wanted}`;
    const answer = await request(address, { signal: stop.signal });
    const time = Number(answer.headers.get("X-Time"));
    const value = Number(answer.headers.get("X-Fake-Probability"));
    const blob = await answer.blob();
    const picture = h("img", {
      class: "heat-picture",
      src: URL.createObjectURL(blob),
      alt: t("heat.alt", { index: track.track + 1, time: clock(time), share: percent(value) }),
    });
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
    refill(
      body,
      picture,
      h(
        "div",
        { class: "heat-words" },
        h(
          "p",
          { class: "heat-value" },
          shape(level(value)),
          t("heat.value", { index: track.track + 1, time: clock(time), share: percent(value) }),
        ),
        h("div", { class: "heat-scale", "aria-hidden": "true" }),
        h(
          "div",
          { class: "heat-ends" },
          ["low", "middle", "high"].map((end) => h("span", {}, t(`heat.${end}`))),
        ),
        h("p", { class: "small" }, t("heat.meaning")),
      ),
    );
  };

  const offer = (present, track) => {
    choice.hidden = present.length < 2;
    const names = present.map((one) => one.track).join();
    if (choice.dataset.faces === names) return;
    choice.dataset.faces = names;
    refill(
      choice,
      present.map((one) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name: `heat-${entry.key}`,
            checked: one === track,
            on: { change: () => ((chosen = one.track), ask()) },
          }),
          h("span", {}, t("face", { index: one.track + 1 })),
        ),
      ),
    );
  };

  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  };
  playhead.addEventListener("time", later);
  playhead.addEventListener("state", later);
  return {
    element,
    open(on) {
      element.hidden = !on;
      if (on) playhead.media?.pause();
      ask();
    },
    close() {
      clearTimeout(timer);
      stop.abort();
    },
  };
}
