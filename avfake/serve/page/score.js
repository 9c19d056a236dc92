// What the figures of an answer mean, without a pixel drawn: pure functions of Prediction's JSON.

/** Probability from which a stretch is pointed out (SUSPICIOUS in avfake/types.py). */
export const SUSPICIOUS = 0.7;
/** Confidence of lip-sync below which its offset may be any (WEAK_MATCH there). */
export const WEAK_MATCH = 0.1;
export const BRANCHES = ["visual", "audio", "lipsync"];
const LANES = ["visual", "lipsync", "audio"];
const TOUCH = 1e-6;

/** "fake", "unsure" or "real" of a whole clip, by its models' thresholds. */
export function verdict(result) {
  return (
    { "likely fake": "fake", uncertain: "unsure", "likely real": "real" }[result.verdict] ?? "none"
  );
}

/** The same three levels of one stretch of time. */
export function level(probability) {
  if (probability === null) return "none";
  if (probability >= SUSPICIOUS) return "fake";
  return probability <= 1 - SUSPICIOUS ? "real" : "unsure";
}

/** Seconds that an answer spans; 0 for a still image. */
export function length(result) {
  if (result.media?.duration) return result.media.duration;
  const windows = Object.values(result.branches).flatMap((score) => score.windows);
  return Math.max(
    0,
    ...windows.map((window) => window.end),
    ...result.tracks.map((track) => track.end),
  );
}

/**
 * What a probability, calibrated for a world in which every second clip is a fake, is worth where
 * one clip in `among` is (Bayes: the prior odds change, the evidence does not).
 */
export function inWorld(probability, among) {
  return probability / (probability + (1 - probability) * (among - 1));
}

/**
 * Windows as stretches that do not overlap: where two do, the border lies midway between their
 * centres, so that each moment shows the window that is centred nearest.
 */
export function stretches(windows) {
  const sorted = [...windows].sort((a, b) => a.start - b.start || a.end - b.end);
  return sorted.map((window, index) => {
    const before = sorted[index - 1];
    const after = sorted[index + 1];
    return {
      start: before && before.end > window.start + TOUCH ? midway(before, window) : window.start,
      end: after && after.start < window.end - TOUCH ? midway(window, after) : window.end,
      value: window.fake_probability,
    };
  });
}

function midway(a, b) {
  return (a.start + a.end + b.start + b.end) / 4;
}

/** At most `columns` stretches of a long clip: of each column the highest value. */
export function condensed(cells, duration, columns = 480) {
  if (cells.length <= columns) return cells;
  const highest = new Map();
  for (const cell of cells) {
    const column = Math.min(
      columns - 1,
      Math.floor((((cell.start + cell.end) / 2) * columns) / duration),
    );
    highest.set(column, Math.max(cell.value, highest.get(column) ?? 0));
  }
  return [...highest].map(([column, value]) => ({
    start: (column * duration) / columns,
    end: ((column + 1) * duration) / columns,
    value,
  }));
}

/** The value at a time, or null. */
export function valueAt(cells, time) {
  return cells.find((cell) => cell.start <= time && time < cell.end)?.value ?? null;
}

/**
 * Lanes of the timeline, one a branch and a face, the most suspicious face first. A branch without
 * an answer has one lane with its reason.
 */
export function lanes(result) {
  return LANES.filter((branch) => result.branches[branch]).flatMap((branch) => {
    const score = result.branches[branch];
    if (score.status !== "ok") return [{ branch, track: null, score, cells: [], segments: [] }];
    const tracks = [...new Set(score.windows.map((window) => window.track))];
    const found = tracks.map((track) => {
      const windows = score.windows.filter((window) => window.track === track);
      const segments = result.segments.filter(
        (segment) => segment.branch === branch && windows.some((window) => inside(window, segment)),
      );
      return { branch, track, score, cells: stretches(windows), segments };
    });
    return found.sort((a, b) => highest(b) - highest(a) || a.track - b.track);
  });
}

function inside(window, segment) {
  return (
    window.fake_probability >= SUSPICIOUS &&
    window.start >= segment.start - TOUCH &&
    window.end <= segment.end + TOUCH
  );
}

function highest(lane) {
  return Math.max(0, ...lane.cells.map((cell) => cell.value));
}

/**
 * A face's box at a time, [left, top, right, bottom] in pixels of the upright picture, between two
 * boxes in proportion; null where the face is not there.
 */
export function boxAt(track, time) {
  const { boxes } = track;
  const last = boxes.length - 1;
  if (last < 0 || time < boxes[0][0] - 0.04 || time > boxes[last][0] + 0.06) return null;
  let low = 0;
  let high = last;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (boxes[middle][0] <= time) low = middle;
    else high = middle - 1;
  }
  const [a, b] = [boxes[low], boxes[Math.min(low + 1, last)]];
  const gap = b[0] - a[0];
  if (gap > 0.5 && time - a[0] > 0.06 && b[0] - time > 0.04) return null;
  const share = gap > 0 ? Math.min(1, Math.max(0, (time - a[0]) / gap)) : 0;
  return [1, 2, 3, 4].map((side) => a[side] + share * (b[side] - a[side]));
}

/** What the picture branch says of a face: a function of time; where it is silent, of the whole. */
export function faceValue(result, track) {
  const windows = result.branches.visual?.windows ?? [];
  const cells = stretches(windows.filter((window) => window.track === track.track));
  return (time) => valueAt(cells, time) ?? track.fake_probability;
}
