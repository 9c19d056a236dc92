// Words and numbers. All words are in texts.json: a translation is another such file.

let texts = {};
let plural = new Intl.PluralRules("en");

export async function loadTexts() {
  const answer = await fetch(new URL("texts.json", import.meta.url));
  if (!answer.ok) throw new Error(`texts.json: ${answer.status}`);
  texts = await answer.json();
  plural = new Intl.PluralRules(texts.language);
  document.documentElement.lang = texts.language;
}

/**
 * The text called `key` ("verdict.fake.name"), with `{name}` replaced by `values.name`. A text in
 * several forms ({"one": ..., "other": ...}) is chosen by `values.count`.
 */
export function t(key, values = {}) {
  const text = find(key);
  if (text === undefined) throw new Error(`no text ${key}`);
  return filled(text, values);
}

/** The text `group.code`, or null: for codes that a newer server may add to. */
export function named(group, code, values = {}) {
  return has(group, code) ? filled(find(group)[code], values) : null;
}

export function has(group, code) {
  return Object.hasOwn(find(group), code);
}

/** A list of texts. */
export function list(key) {
  return find(key);
}

function find(key) {
  return key.split(".").reduce((level, name) => level?.[name], texts);
}

function filled(text, values) {
  const form = typeof text === "string" ? text : (text[plural.select(values.count)] ?? text.other);
  return form.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(texts.language, { maximumFractionDigits: digits }).format(value);
}

/** A probability as a person reads it: never 0 % or 100 %, for nothing is certain. */
export function percent(probability) {
  if (probability < 0.01) return t("under_one");
  if (probability > 0.99) return t("over_99");
  return new Intl.NumberFormat(texts.language, { style: "percent" }).format(probability);
}

/** Seconds as a clock: 0:02.4, 1:02:03.0. */
export function clock(seconds, digits = 1) {
  const whole = Math.max(0, Math.round(seconds * 10 ** digits) / 10 ** digits);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Seconds as they are spoken. */
export function spoken(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes && seconds % 60 === 0)
    return t("time.minutes", { count: minutes, value: number(minutes) });
  const rest = t("time.seconds", {
    count: Number((seconds % 60).toFixed(1)),
    value: number(seconds % 60, 1),
  });
  return minutes
    ? `${t("time.minutes", { count: minutes, value: number(minutes) })} ${rest}`
    : rest;
}

/** An ISO time for people; as it is where it is none. */
export function moment(iso) {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return iso;
  return new Intl.DateTimeFormat(texts.language, {
    dateStyle: "medium",
    timeStyle: "short",
  }).format(time);
}

export function bytes(count) {
  const steps = list("units");
  let step = 0;
  for (; count >= 1024 && step < steps.length - 1; step += 1) count /= 1024;
  return `${number(count, count < 10 && step ? 1 : 0)} ${steps[step]}`;
}
