// Boxes over the picture: where each face is, and what the picture branch says of it just then.

import { h, shape, tone } from "./dom.js";
import { boxAt, faceValue, level } from "./score.js";
import { percent, t } from "./text.js";

/** `picture`: the video or img element that fills `stage` without being cut (object-fit: contain). */
export function overlay(stage, picture, result, playhead) {
  const layer = h("div", { class: "faces", "aria-hidden": "true" });
  stage.append(layer);
  const faces = result.tracks.map((track) => {
    const label = h("span", { class: "face-label" });
    const frame = h("div", { class: "face" }, label);
    layer.append(frame);
    return { track, frame, label, value: faceValue(result, track), told: "" };
  });
  const draw = () => {
    const place = placed(stage, picture, result.media);
    for (const face of faces) {
      const box = place && boxAt(face.track, playhead.shown);
      face.frame.hidden = !box;
      if (box) show(face, box, place, face.value(playhead.shown));
    }
  };
  const sizes = new ResizeObserver(draw);
  sizes.observe(stage);
  playhead.addEventListener("time", draw);
  for (const event of ["loadedmetadata", "loadeddata", "load"])
    picture.addEventListener(event, draw);
  draw();
  return { element: layer, draw, close: () => sizes.disconnect() };
}

/** Where the picture lies in its stage: {left, top} and pixels on the screen a pixel of the clip. */
function placed(stage, picture, media) {
  const width = picture.videoWidth || picture.naturalWidth;
  const height = picture.videoHeight || picture.naturalHeight;
  if (!width || !height || !media?.width || !media?.height) return null;
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  return {
    left: (stage.clientWidth - width * scale) / 2,
    top: (stage.clientHeight - height * scale) / 2,
    // A preview is smaller than the clip, and pixels need not be square.
    across: (width * scale) / media.width,
    down: (height * scale) / media.height,
  };
}

function show(face, [left, top, right, bottom], place, value) {
  const x = place.left + left * place.across;
  const y = place.top + top * place.down;
  const { style } = face.frame;
  style.transform = `translate(${x}px, ${y}px)`;
  style.width = `${(right - left) * place.across}px`;
  style.height = `${(bottom - top) * place.down}px`;
  face.frame.classList.toggle("is-high", y < 28);
  const told = value === null ? "" : percent(value);
  if (face.told === told && face.label.hasChildNodes()) return;
  face.told = told;
  face.frame.dataset.level = level(value);
  tone(face.frame, value);
  const name = t("face", { index: face.track.track + 1 });
  face.label.replaceChildren(shape(level(value)), `${name} ${told}`.trim());
}
