// How far a clip is, in words: for the list at the side, the clip's page and the window's title.

import { shape } from "./dom.js";
import { verdict } from "./score.js";
import { number, percent, t } from "./text.js";

export const STEPS = ["sending", "queued", "sound", "faces", "branches"];

/** {step, share, words}: `step` of STEPS; `share` in [0, 1], or null where nobody knows. */
export function stage(entry) {
  const { phase, job } = entry;
  if (phase === "waiting") return { step: "sending", share: null, words: t("stage.waiting") };
  if (phase === "held") return { step: "sending", share: null, words: t("stage.held") };
  if (phase === "sending") {
    const words =
      entry.share < 1 ? t("stage.sending", { share: whole(entry.share) }) : t("stage.arriving");
    return { step: "sending", share: entry.share, words };
  }
  if (job.state === "queued") {
    const ahead = (job.position ?? 1) - 1;
    const words =
      ahead > 0 ? t("stage.queued", { count: ahead, value: number(ahead) }) : t("stage.next");
    return { step: "queued", share: null, words };
  }
  const { stage: step, share } = job.progress ?? { stage: "sound", share: null };
  const words = step === "faces" ? t("stage.faces", { share: whole(share) }) : t(`stage.${step}`);
  return { step, share: step === "faces" ? share : null, words };
}

/** What has become of it, in a few words. */
export function outcome(entry) {
  if (entry.phase === "failed") return t("outcome.failed");
  const { result } = entry;
  if (result.status === "error") return t("outcome.error");
  if (result.status === "abstain") return t("outcome.abstain");
  return t("outcome.ok", {
    verdict: t(`verdict.${verdict(result)}.name`),
    share: percent(result.fake_probability),
  });
}

export function outcomeShape(entry) {
  return shape(entry.answered ? verdict(entry.result) : "none");
}

export function words(entry) {
  return entry.done ? outcome(entry) : stage(entry).words;
}

function whole(share) {
  return t("share", { value: number(100 * (share ?? 0)) });
}
