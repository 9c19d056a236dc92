// The clip itself: picture or sound, boxes over the faces, and the controls under it.

import { h, icon, refill } from "./dom.js";
import { overlay } from "./overlay.js";
import { clock, t } from "./text.js";

const SPEEDS = [0.25, 0.5, 1, 2];

/**
 * `entry` is done and has a result. Returns {element, stage, heatButton, close}; `heatButton` is
 * null where there is no face to show.
 */
export function player(entry, playhead) {
  const { media: shown, result } = entry.job;
  const kind = shown?.kind ?? "none";
  const address = `v1/predictions/${entry.job.id}/media`;
  const picture = kind === "video" || kind === "image";
  const element = h("div", { class: `player is-${kind}` });
  const notes = h("div", { class: "player-notes" });
  const closing = [];
  let stage = null;
  let faces = null;
  let media = null;

  if (kind === "video") {
    media = h("video", {
      src: address,
      preload: "auto",
      playsinline: true,
      "aria-label": t("player.video"),
    });
    media.disablePictureInPicture = true;
  } else if (kind === "audio") {
    media = h("audio", { src: address, preload: "auto" });
  }
  const seen = kind === "image" ? h("img", { src: address, alt: t("player.image") }) : media;
  if (picture) {
    stage = h("div", { class: "stage" }, seen);
    if (result.media?.width)
      stage.style.setProperty("--shape", result.media.width / result.media.height);
    element.append(stage);
    if (result.tracks.length) {
      faces = overlay(stage, seen, result, playhead);
      closing.push(faces.close);
    }
  } else if (media) {
    element.append(media);
  }
  if (media) {
    playhead.follow(media);
    stage?.addEventListener("click", () => playhead.toggle());
  }
  const broken = () => {
    playhead.release();
    element.classList.add("is-broken");
    refill(notes, h("p", { class: "note" }, t("player.broken")));
  };
  seen?.addEventListener("error", broken);
  const heatButton = faces ? toggle(t("player.heat"), false) : null;
  heatButton?.classList.add("is-kept"); // where the clip cannot be played, too
  element.append(controls({ media, faces, heatButton, playhead, element, result }), notes);
  const noted = (key) => refill(notes, h("p", { class: "note" }, t(key)));
  if (!shown) noted("player.absent");
  else if (shown.preview) {
    noted(shown.ready ? "player.preview" : "player.making");
    seen.addEventListener("loadedmetadata", () => noted("player.preview"));
  }

  const close = () => {
    closing.forEach((end) => end());
    playhead.release();
    if (media) {
      media.pause();
      media.removeAttribute("src"); // or the browser goes on loading it
      media.load();
    }
  };
  return { element, stage, heatButton, close };
}

function controls({ media, faces, heatButton, playhead, element, result }) {
  const bar = h("div", { class: "controls", role: "group", "aria-label": t("player.controls") });
  if (media) {
    const step = 1 / (result.media?.fps || 25);
    const moving = media.tagName === "VIDEO";
    bar.append(
      playButton(playhead),
      ...(moving
        ? [
            plain("back", t("player.back"), () => hop(playhead, -step)),
            plain("forward", t("player.forward"), () => hop(playhead, step)),
          ]
        : []),
      timeText(playhead),
      h("span", { class: "gap" }),
      speed(media),
      mute(media),
    );
  }
  if (faces) {
    const boxes = toggle(t("player.boxes"), true, (on) => (faces.element.hidden = !on));
    bar.append(boxes, heatButton);
  }
  if (media?.tagName === "VIDEO" && document.fullscreenEnabled) {
    bar.append(
      plain("whole", t("player.whole"), () =>
        document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen(),
      ),
    );
  }
  return bar;
}

/** One picture on: to the middle of the next one, for its edge may belong to either. */
export function hop(playhead, step) {
  playhead.media?.pause();
  const { time, shown } = playhead;
  const length = Math.abs(step);
  // Firefox tells the time that was sought, not the frame's own: frames are counted from 0 then.
  const begin = shown < time ? shown : Math.floor(time / length + 0.001) * length;
  playhead.seek(begin + step + length / 2);
}

function plain(name, label, act) {
  return h(
    "button",
    { type: "button", class: "tool", "aria-label": label, title: label, on: { click: act } },
    icon(name),
  );
}

function playButton(playhead) {
  const button = plain("play", t("player.play"), () => playhead.toggle());
  button.classList.add("is-main");
  const show = () => {
    const label = playhead.playing ? t("player.pause") : t("player.play");
    button.setAttribute("aria-label", label);
    button.title = label;
    button.disabled = playhead.media === null;
    refill(button, icon(playhead.playing ? "pause" : "play"));
  };
  playhead.addEventListener("state", show);
  return button;
}

function timeText(playhead) {
  const now = h("span", { class: "now" });
  const show = () => refill(now, clock(playhead.time));
  playhead.addEventListener("time", show);
  show();
  return h("span", { class: "time" }, now, " / ", clock(playhead.duration));
}

function speed(media) {
  const choice = h(
    "select",
    {
      class: "speed",
      "aria-label": t("player.speed"),
      title: t("player.speed"),
      on: { change: () => (media.playbackRate = Number(choice.value)) },
    },
    SPEEDS.map((rate) =>
      h("option", { value: rate, selected: rate === 1 }, t("player.rate", { rate })),
    ),
  );
  return choice;
}

function mute(media) {
  const button = plain("sound", t("player.mute"), () => (media.muted = !media.muted));
  button.setAttribute("aria-pressed", "false");
  media.addEventListener("volumechange", () => {
    button.setAttribute("aria-pressed", String(media.muted));
    refill(button, icon(media.muted ? "silent" : "sound"));
  });
  return button;
}

/** A button that is on or off, and says so. */
export function toggle(label, on, tell = () => {}) {
  const button = h(
    "button",
    { type: "button", class: "toggle", "aria-pressed": String(on) },
    label,
  );
  button.addEventListener("click", () => {
    const next = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(next));
    tell(next);
    button.dispatchEvent(new CustomEvent("toggled", { detail: next }));
  });
  return button;
}
