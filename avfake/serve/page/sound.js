// The sound's own lane: its waveform, or its spectrogram, on the timeline's scale.

import { getJSON, request } from "./api.js";
import { h, refill, svg } from "./dom.js";
import { t } from "./text.js";

const COLUMNS = 800;
const FINE = 4000; // as many as the server gives

/** A row of the timeline, as `row` there makes them; `tool`: the choice between the two pictures. */
export function soundLane(entry, duration) {
  const stop = new AbortController();
  const lane = h("div", { class: "lane is-sound" });
  const views = {
    waveform: () => wave(entry, duration, columns, stop.signal),
    spectrogram: () => spectrum(entry, stop.signal),
  };
  let wanted = "waveform";
  let columns = COLUMNS;
  const show = async (name, tries = 5) => {
    wanted = name;
    refill(lane, h("span", { class: "lane-reason" }, t("sound.loading")));
    try {
      const picture = await views[name]();
      if (wanted === name) refill(lane, picture);
    } catch (fault) {
      if (fault.name === "AbortError" || wanted !== name) return;
      if (fault.reason === "busy" && tries > 1)
        setTimeout(() => stop.signal.aborted || show(name, tries - 1), 3000);
      else refill(lane, h("span", { class: "lane-reason" }, t("sound.failed")));
    }
  };
  const group = `sound-${entry.key}-${Math.random()}`;
  const tool = h(
    "div",
    { class: "choice", role: "radiogroup", "aria-label": t("sound.choice") },
    Object.keys(views).map((name, index) =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name: group,
          value: name,
          checked: index === 0,
          on: { change: () => show(name) },
        }),
        h("span", {}, t(`sound.${name}`)),
      ),
    ),
  );
  show("waveform");
  return {
    branch: "sound",
    track: null,
    lane,
    tool,
    name: h("div", { class: "tl-name is-sound" }, t("sound.name")),
    value: h("span", { class: "tl-value is-sound" }),
    draw(times) {
      if (times === 1 || columns === FINE) return;
      columns = FINE;
      if (wanted === "waveform") show(wanted);
    },
    at() {},
    say: () => null,
    close: () => stop.abort(),
  };
}

async function wave(entry, duration, columns, signal) {
  const { start, end, low, high } = await getJSON(
    `v1/predictions/${entry.job.id}/waveform?columns=${columns}`,
    { signal },
  );
  const loudest = Math.max(0.05, ...high, ...low.map((value) => -value));
  const scaled = (value) => (value / loudest).toFixed(3);
  const tops = high.map((value, x) => `${x} ${-scaled(Math.max(value, 0.004 * loudest))}`);
  const floors = low
    .map((value, x) => `${x} ${-scaled(Math.min(value, -0.004 * loudest))}`)
    .reverse();
  const drawn = svg(
    "svg",
    {
      class: "wave",
      viewBox: `0 -1.05 ${high.length - 1} 2.1`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
      focusable: "false",
    },
    svg("path", { d: `M${[...tops, ...floors].join("L")}Z` }),
  );
  drawn.style.left = `${(100 * start) / duration}%`;
  drawn.style.width = `${(100 * (end - start)) / duration}%`;
  return drawn;
}

async function spectrum(entry, signal) {
  const answer = await request(`v1/predictions/${entry.job.id}/spectrogram`, { signal });
  const address = URL.createObjectURL(await answer.blob());
  const image = h("img", {
    class: "spectrum",
    alt: t("sound.alt"),
    draggable: "false",
    src: address,
  });
  await image.decode();
  URL.revokeObjectURL(address);
  return image;
}
