// The answer over time: one lane a branch and a face, the sound under them, a playhead over all.

import { h, refill, svg, tone } from "./dom.js";
import { condensed, lanes, level, valueAt } from "./score.js";
import { soundLane } from "./sound.js";
import { clock, percent, spoken, t } from "./text.js";
import { why } from "./verdict.js";
import { zoomable } from "./zoom.js";

const STEPS = [0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900];
const FACES = 3; // lanes of a branch that are shown at first
const SEGMENTS = 12; // stretches that are listed
const COLUMNS = 480; // bars of a lane in the window, at most

/**
 * Returns {element, keys, close}; `keys(event)` acts on a key press anywhere about the clip, and
 * `tell(words)` speaks.
 */
export function timeline(entry, playhead, tell) {
  const { result } = entry.job;
  const duration = playhead.duration;
  const rows = withSound(
    result,
    lanes(result).map((lane) => row(lane, result, duration)),
    entry,
    duration,
  );
  const names = h("div", { class: "tl-names" });
  const track = h("div", {
    class: "tl-track",
    role: "slider",
    tabindex: "0",
    "aria-label": t("timeline.slider"),
    "aria-valuemin": "0",
    "aria-valuemax": duration.toFixed(1),
    "aria-keyshortcuts": "ArrowLeft ArrowRight Space",
  });
  const values = h("div", { class: "tl-values", "aria-hidden": "true" });
  const head = h("div", { class: "playhead" });
  const ghost = h("div", { class: "ghost", hidden: true }, h("span"));
  const scale = h("div", { class: "tl-axis", "aria-hidden": "true" });
  track.append(scale, ...rows.map((one) => one.lane), ghost, head);
  names.append(h("div", { class: "tl-axis-name" }), ...rows.map((one) => one.name));
  values.append(h("div", { class: "tl-axis-name" }), ...rows.map((one) => one.value));
  const redraw = (times) => {
    refill(scale, ticks(duration, times));
    for (const one of rows) one.draw(times);
  };
  redraw(1);
  const zoom = zoomable(track, playhead, redraw, tell);
  const grid = h("div", { class: "tl-grid" }, names, zoom.port, values);
  const stops = result.segments.map((segment) => segment.start).sort((a, b) => a - b);

  let spokenAt = -1;
  const draw = () => {
    head.style.left = `${(100 * Math.min(duration, playhead.time)) / duration}%`;
    for (const one of rows) one.at(playhead.time);
    if (playhead.playing && Math.abs(playhead.time - spokenAt) < 1) return;
    spokenAt = playhead.time;
    track.setAttribute("aria-valuenow", playhead.time.toFixed(1));
    track.setAttribute("aria-valuetext", inWords(rows, result, playhead.time));
  };
  playhead.addEventListener("time", draw);
  playhead.addEventListener("state", draw);
  draw();

  const timeOf = (event) => {
    const { left, width } = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width)) * duration;
  };
  // A finger on a part of the clip moves that part; the playhead goes where it taps.
  const scrolls = (event) => event.pointerType === "touch" && zoom.level() > 1;
  let dragging = false;
  track.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (scrolls(event)) return;
    dragging = true;
    track.setPointerCapture(event.pointerId);
    playhead.seek(timeOf(event));
  });
  track.addEventListener("pointermove", (event) => {
    const time = timeOf(event);
    ghost.hidden = dragging || event.pointerType === "touch";
    ghost.style.left = `${(100 * time) / duration}%`;
    refill(ghost.firstChild, clock(time));
    if (dragging) playhead.seek(time);
  });
  track.addEventListener("pointerup", (event) => {
    if (scrolls(event)) playhead.seek(timeOf(event)); // a tap: what scrolled has been cancelled
  });
  for (const end of ["pointerup", "pointercancel"])
    track.addEventListener(end, () => (dragging = false));
  track.addEventListener("pointerleave", () => (ghost.hidden = true));

  const keys = (event) => {
    const act = action(event, playhead, duration, stops, zoom);
    if (act === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };

  const element = h(
    "section",
    { class: "timeline", "aria-label": t("timeline.title") },
    h(
      "div",
      { class: "tl-head" },
      h("h3", {}, t("timeline.title")),
      h("div", { class: "tl-tools" }, zoom.tool, rows.map((one) => one.tool)),
    ),
    grid,
    h("p", { class: "small tl-keys" }, t("timeline.keys"), zoom.tool && ` ${t("zoom.keys")}`),
    moreFaces(rows),
    segments(result, playhead, zoom),
  );
  return { element, keys, close: () => rows.forEach((one) => one.close?.()) };
}

function action(event, playhead, duration, stops, zoom) {
  const near = event.shiftKey ? 0.04 : 0.2;
  const far = Math.max(1, duration / 10);
  const { time } = playhead;
  const next = stops.find((stop) => stop > time + 0.05);
  const previous = stops.findLast((stop) => stop < time - 0.3);
  const moves = {
    ArrowRight: () => playhead.seek(time + near),
    ArrowUp: () => playhead.seek(time + near),
    ArrowLeft: () => playhead.seek(time - near),
    ArrowDown: () => playhead.seek(time - near),
    PageUp: () => playhead.seek(time + far),
    PageDown: () => playhead.seek(time - far),
    Home: () => playhead.seek(0),
    End: () => playhead.seek(duration),
    " ": () => playhead.toggle(),
    k: () => playhead.toggle(),
    n: () => next !== undefined && playhead.seek(next),
    p: () => previous !== undefined && playhead.seek(previous),
    "+": () => zoom.change(1),
    "=": () => zoom.change(1), // the same key where + needs Shift
    "-": () => zoom.change(-1),
    0: () => zoom.change(0),
  };
  return Object.hasOwn(moves, event.key) ? moves[event.key] : null;
}

function row(lane, result, duration) {
  const name = laneName(lane, result);
  const value = h("span", { class: "tl-value" });
  const absent = lane.score.status !== "ok";
  const drawn = h(
    "div",
    { class: absent ? "lane is-absent" : "lane" },
    absent ? h("span", { class: "lane-reason" }, why(lane.score)) : null,
  );
  const draw = (times) => {
    if (!absent) refill(drawn, bars(lane, duration, times));
  };
  const at = (time) => {
    const now = valueAt(lane.cells, time);
    const text = now === null ? "–" : percent(now);
    if (value.textContent !== text) {
      refill(value, text);
      value.dataset.level = level(now);
    }
  };
  const say = (time) => {
    const now = valueAt(lane.cells, time);
    if (absent) return null;
    return now === null
      ? t("timeline.unjudged", { lane: name })
      : t("timeline.value", { lane: name, share: percent(now) });
  };
  return {
    branch: lane.branch,
    track: lane.track,
    name: h("div", { class: "tl-name" }, name),
    lane: drawn,
    value,
    draw,
    at,
    say,
  };
}

function laneName(lane, result) {
  const branch = t(`branch.${lane.branch}.name`);
  if (lane.track === null || result.tracks.length < 2) return branch;
  return t("timeline.lane", { branch, face: t("face", { index: lane.track + 1 }) });
}

/**
 * Bars as high as the probability, those pointed out hatched, and a bracket over each stretch;
 * `times`: how much wider than the window they are.
 */
function bars({ cells: all, segments }, duration, times) {
  const cells = condensed(all, duration, COLUMNS * times);
  const across = (time) => `${((100 * time) / duration).toFixed(3)}%`;
  const dense = cells.length > 80 * times ? " is-dense" : ""; // no room for gaps between them
  const drawn = svg("svg", { class: `bars${dense}`, "aria-hidden": "true", focusable: "false" });
  drawn.append(svg("line", { class: "half", x1: "0", x2: "100%", y1: "50%", y2: "50%" }));
  for (const { start, end, value } of cells) {
    const place = {
      x: across(start),
      width: across(end - start),
      y: `${(100 - 100 * value).toFixed(2)}%`,
      height: `${(100 * value).toFixed(2)}%`,
    };
    drawn.append(tone(svg("rect", { class: "bar", ...place }), value));
    if (level(value) === "fake")
      drawn.append(svg("rect", { class: "bar-hatch", fill: "url(#hatch)", ...place }));
  }
  for (const { start, end } of segments) {
    drawn.append(
      svg("rect", {
        class: "bracket",
        x: across(start),
        width: across(end - start),
        y: "0",
        height: "3",
      }),
    );
  }
  return drawn;
}

/** Marks of time, eight or so in the window; the axis is `times` wider than that. */
function ticks(duration, times) {
  const step = STEPS.find((one) => duration / times / one <= 8) ?? 1800;
  const marks = [];
  const near = (share) => duration * (1 - share / times); // so near to the end
  for (let index = 0; index * step <= duration + 1e-6; index += 1) {
    const time = index * step;
    const end = time > near(0.035) ? " is-last" : time > near(0.12) ? " is-late" : "";
    const tick = h(
      "span",
      { class: `tick${index % 2 ? " is-odd" : ""}${end}` },
      clock(time, step < 1 ? 1 : 0),
    );
    tick.style.left = `${(100 * time) / duration}%`;
    marks.push(tick);
  }
  return marks;
}

function withSound(result, rows, entry, duration) {
  return result.media?.audio_codec ? [...rows, soundLane(entry, duration)] : rows;
}

/** Faces beyond the first few are laid away until they are asked for. */
function moreFaces(rows) {
  const counts = {};
  const hidden = rows.filter((one) => {
    counts[one.branch] = (counts[one.branch] ?? 0) + 1;
    return counts[one.branch] > FACES;
  });
  if (!hidden.length) return null;
  const parts = hidden.flatMap((one) => [one.name, one.lane, one.value]);
  parts.forEach((part) => (part.hidden = true));
  const button = h(
    "button",
    { type: "button", class: "quiet" },
    t("timeline.more", { count: hidden.length, value: hidden.length }),
  );
  button.addEventListener("click", () => {
    parts.forEach((part) => (part.hidden = false));
    button.remove();
  });
  return button;
}

function segments(result, playhead, zoom) {
  if (!result.segments.length) {
    return result.status === "ok" ? h("p", { class: "tl-none" }, t("timeline.none")) : null;
  }
  const worst = [...result.segments]
    .sort((a, b) => b.fake_probability - a.fake_probability || b.end - b.start - (a.end - a.start))
    .slice(0, SEGMENTS);
  return h(
    "div",
    { class: "segments" },
    h("h4", {}, t("timeline.segments")),
    h(
      "ul",
      {},
      worst.map((segment) =>
        h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: "segment",
              on: {
                click: () => {
                  playhead.seek(segment.start + 0.01);
                  zoom.reveal((segment.start + segment.end) / 2);
                },
              },
            },
            h(
              "span",
              { class: "segment-time" },
              t("timeline.span", { start: clock(segment.start), end: clock(segment.end) }),
            ),
            h("span", {}, t(`branch.${segment.branch}.name`)),
            h("span", { class: "segment-value" }, percent(segment.fake_probability)),
          ),
        ),
      ),
    ),
  );
}

function inWords(rows, result, time) {
  const parts = [spoken(time), ...rows.map((one) => one.say(time))];
  const here = result.segments.filter((one) => one.start <= time && time < one.end);
  parts.push(
    ...here.map((one) => t("timeline.inside", { branch: t(`branch.${one.branch}.name`) })),
  );
  return parts.filter(Boolean).join("; ");
}
