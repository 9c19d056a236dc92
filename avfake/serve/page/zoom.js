// The timeline's window: of a long clip it shows a part, and goes along with the playhead.

import { h, refill } from "./dom.js";
import { clock, t } from "./text.js";

const CLOSEST = 8; // seconds that fill the window at most magnified

/**
 * `track` is as long as the clip and as wide as its parent. `redraw(times)` is called where it
 * becomes so many times wider; `tell(words)` speaks. Returns {port, tool, change, reveal, level}:
 * `port` holds the track; `tool` is null for clips that fit; `change(step)` doubles (1), halves
 * (-1) or ends (0) the magnification.
 */
export function zoomable(track, playhead, redraw, tell) {
  const { duration } = playhead;
  const port = h("div", { class: "tl-port", tabindex: "-1" }, track);
  const most = 2 ** Math.max(0, Math.round(Math.log2(duration / CLOSEST)));
  let times = 1;

  /** {from, to}: seconds in the window. */
  const part = () => {
    const inside = port.getBoundingClientRect();
    const whole = track.getBoundingClientRect();
    const at = (x) => Math.min(1, Math.max(0, (x - whole.left) / whole.width)) * duration;
    return { from: at(inside.left), to: at(inside.right) };
  };
  const holds = (time) => {
    const { from, to } = part();
    return from <= time && time <= to;
  };
  /** Scroll so that `time` stands at `share` of the window's width. */
  const reveal = (time, share = 0.5) => {
    if (times === 1) return;
    const x = (time / duration) * track.clientWidth;
    port.scrollLeft = x - share * port.clientWidth;
  };

  const inWords = () => {
    const { from, to } = part();
    return times === 1
      ? t("zoom.whole")
      : t("zoom.part", { start: clock(from, 0), end: clock(to, 0) });
  };
  const words = h("span", { class: "zoom-words" }, t("zoom.whole"));
  const button = (step, sign, label) =>
    h(
      "button",
      {
        type: "button",
        class: "zoom-step",
        "aria-label": label,
        title: label,
        on: { click: () => change(step) },
      },
      sign,
    );
  const out = button(-1, "−", t("zoom.out"));
  const into = button(1, "+", t("zoom.into"));
  const show = () => {
    refill(words, inWords());
    // Not disabled: a button that is loses the focus.
    out.setAttribute("aria-disabled", String(times === 1));
    into.setAttribute("aria-disabled", String(times === most));
  };

  const change = (step) => {
    const next = step === 0 ? 1 : Math.min(most, Math.max(1, times * 2 ** step));
    if (next === times) return;
    const { from, to } = part();
    const centre = holds(playhead.time) ? playhead.time : (from + to) / 2;
    times = next;
    port.classList.toggle("is-zoomed", times > 1);
    track.style.width = `${100 * times}%`;
    redraw(times);
    reveal(centre);
    show();
    tell(inWords());
  };

  // Where the playhead walks out of the window, the window follows; unless it was scrolled away.
  let last = playhead.time;
  let held = true;
  port.addEventListener("scroll", () => {
    held = holds(last);
    show();
  });
  playhead.addEventListener("time", () => {
    const { time } = playhead;
    const jumped = Math.abs(time - last) > 1;
    last = time;
    if (times === 1) return;
    if (holds(time)) held = true;
    else if (jumped) reveal(time);
    else if (held) reveal(time, playhead.playing ? 0.05 : 0.5);
  });
  show();

  const tool =
    most === 1
      ? null
      : h(
          "div",
          { class: "zoom", role: "group", "aria-label": t("zoom.title") },
          out,
          words,
          into,
        );
  return { port, tool, change, reveal, level: () => times };
}
