// The page's frame: loads what it needs, shows what the address names, takes files from anywhere.

import { Fault, getJSON, openSession, setToken, takeToken } from "./api.js";
import { clipPage } from "./clip.js";
import { comparePage } from "./compare.js";
import { h, icon, refill } from "./dom.js";
import { openGuide } from "./guide.js";
import { rail } from "./rail.js";
import { verdict } from "./score.js";
import { Session } from "./session.js";
import { outcome, stage } from "./stages.js";
import { startPage } from "./start.js";
import { loadTexts, t } from "./text.js";
import { faultPage, faultWords, waitingPage } from "./waiting.js";

const page = document.getElementById("page");
const told = document.getElementById("told");

class App {
  constructor(about) {
    this.about = about;
    this.session = new Session(about.keep, about.limits.bytes);
    this.session.restore();
    this.view = null; // what is on the page: {close, update?, entry?, state?}
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.list = rail(this);
    this.banner = h("div", { class: "banner", role: "alert", hidden: true });
    refill(page, this.#frame());
    this.session.addEventListener("change", ({ detail }) => this.#changed(detail));
    this.session.addEventListener("list", () => this.#listed());
    this.session.addEventListener("line", () => this.#line());
    addEventListener("hashchange", () => this.#show());
    addEventListener("beforeunload", (event) => {
      const unsent = ["waiting", "sending", "held"];
      if (this.session.entries.some((entry) => unsent.includes(entry.phase)))
        event.preventDefault();
    });
    this.#listen();
    this.#show(false);
  }

  // What the pages may ask of their frame.

  tell(words) {
    refill(told, words);
  }

  open(entry) {
    location.hash = `#/clip/${entry.key}`;
  }

  faultTitle(fault) {
    return faultWords(fault, this.about).title;
  }

  take(files) {
    if (!files.length) return;
    const entries = this.session.add(files);
    this.open(entries[0]);
  }

  async remove(entry) {
    if (
      !(await confirmed(
        t("confirm.title", { name: entry.name }),
        t("confirm.text"),
        t("confirm.yes"),
      ))
    )
      return;
    await this.cancel(entry);
  }

  /** Stop and delete without a question. */
  async cancel(entry) {
    try {
      await this.session.remove(entry);
      this.tell(t("told.deleted", { name: entry.name }));
    } catch (fault) {
      this.#warn(this.faultTitle(fault));
    }
  }

  forget(entry) {
    return this.session.remove(entry);
  }

  #frame() {
    const skip = h("a", { class: "skip", href: "#main" }, t("frame.skip"));
    skip.addEventListener("click", (event) => {
      event.preventDefault();
      this.main.focus();
    });
    const help = h(
      "button",
      { type: "button", class: "quiet", on: { click: () => openGuide(this.about) } },
      t("guide.title"),
    );
    const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    return [
      skip,
      h(
        "header",
        { class: "top" },
        h(
          "a",
          { class: "brand", href: "#/" },
          h("img", { src: "page/icon.svg", alt: "", width: "28", height: "28" }),
          "avfake",
        ),
        h(
          "p",
          { class: "where" },
          local ? t("frame.local") : t("frame.remote", { host: location.host }),
        ),
        h(
          "nav",
          { "aria-label": t("frame.nav") },
          help,
          h("a", { class: "button", href: "#/" }, t("frame.new")),
        ),
      ),
      this.banner,
      h("div", { class: "body" }, this.list.element, this.main),
      h(
        "footer",
        { class: "bottom" },
        h("p", {}, t("frame.proof")),
        h(
          "p",
          {},
          t("frame.version", {
            version: this.about.version,
            name: this.about.bundle.name,
            bundle: this.about.bundle.version,
          }),
          " ",
          h("a", { href: "docs" }, t("frame.api")),
        ),
      ),
    ];
  }

  /** Show what the address names. */
  #show(focus = true) {
    const [, kind, ...keys] = location.hash.split("/");
    const entries = keys.map((key) => this.session.find(key));
    this.view?.close();
    if (kind === "clip" && entries[0]) this.#showClip(entries[0]);
    else if (
      kind === "compare" &&
      entries.length === 2 &&
      entries.every((entry) => entry?.answered)
    )
      this.#showPair(entries);
    else if (kind === "compare" && entries.some((entry) => entry && !entry.done))
      this.#showLater(entries);
    else this.#set({ element: startPage(this), close() {} }, []);
    this.#title();
    if (!focus) return;
    this.main.querySelector("h1")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  #showClip(entry) {
    if (!entry.done) this.#set({ ...waitingPage(entry, this), entry }, [entry.key]);
    else if (entry.phase === "failed" || entry.result.status === "error")
      this.#set({ element: faultPage(entry, this), close() {}, entry }, [entry.key]);
    else this.#set({ ...clipPage(entry, this), entry }, [entry.key]);
  }

  #showPair(entries) {
    this.#set(
      comparePage(...entries, this),
      entries.map((entry) => entry.key),
    );
  }

  /** After a reload the two clips are asked for anew. */
  #showLater(entries) {
    this.#set(
      { element: h("p", { class: "note" }, t("compare.loading")), close() {}, waitsFor: entries },
      [],
    );
  }

  #set(view, keys) {
    this.view = view;
    view.state = view.entry ? standing(view.entry) : null;
    refill(this.main, view.element);
    this.list.mark(keys);
  }

  #changed(entry) {
    if (this.view.entry === entry) {
      if (this.view.state === standing(entry)) this.view.update?.();
      else this.#show(this.main.contains(document.activeElement));
      this.#title();
    }
    if (this.view.waitsFor?.every((one) => one?.done)) this.#show();
    if (entry.done) this.tell(t("told.done", { name: entry.name, outcome: outcome(entry) }));
  }

  #listed() {
    const [, , ...keys] = location.hash.split("/");
    if (keys.some((key) => !this.session.find(key))) location.hash = "#/";
  }

  #title() {
    const { entry } = this.view;
    document.title = entry
      ? t("frame.title", {
          state: entry.done ? outcome(entry) : stage(entry).words,
          name: entry.name,
        })
      : t("frame.plain_title");
  }

  #line() {
    if (this.session.lost) this.#warn(t("frame.lost"));
    else this.banner.hidden = true;
  }

  #warn(words) {
    refill(this.banner, words);
    this.banner.hidden = false;
  }

  /** Files may be dropped or pasted anywhere. */
  #listen() {
    const veil = h(
      "div",
      { class: "veil", hidden: true, "aria-hidden": "true" },
      h("p", {}, icon("up"), t("start.release")),
    );
    document.body.append(veil);
    let depth = 0;
    const brings = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    addEventListener("dragenter", (event) => {
      if (!brings(event)) return;
      depth += 1;
      veil.hidden = false;
    });
    addEventListener("dragleave", (event) => {
      if (!brings(event)) return;
      depth = Math.max(0, depth - 1);
      veil.hidden = depth === 0;
    });
    addEventListener("dragover", (event) => brings(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!brings(event)) return;
      event.preventDefault();
      depth = 0;
      veil.hidden = true;
      this.take([...event.dataTransfer.files]);
    });
    addEventListener("paste", (event) => this.take([...(event.clipboardData?.files ?? [])]));
  }
}

/** Entries whose standing differs are shown by different pages. */
function standing(entry) {
  return entry.done ? `${entry.phase} ${verdict(entry.result ?? {})}` : "waiting";
}

function confirmed(title, text, yes) {
  const ok = h("button", { type: "button", class: "button is-danger" }, yes);
  const no = h("button", { type: "button", class: "button" }, t("confirm.no"));
  const dialog = h(
    "dialog",
    { class: "confirm", "aria-labelledby": "confirm-title" },
    h("h2", { id: "confirm-title" }, title),
    h("p", {}, text),
    h("div", { class: "actions" }, no, ok),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    ok.addEventListener("click", () => dialog.close("yes"));
    no.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

/** The server wants a token, or cannot be reached: say so, and try again. */
function showTrouble(fault) {
  if (!(fault instanceof Fault)) throw fault;
  const { title, help } = faultWords(fault, null);
  const again = () => begin().catch(showTrouble);
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const form = h(
    "form",
    { class: "token" },
    h("label", { for: "token" }, t("token.label")),
    field,
    h("button", { class: "button is-main" }, t("token.send")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(field.value.trim());
    again();
  });
  const retry = h(
    "button",
    { type: "button", class: "button is-main", on: { click: again } },
    t("action.retry"),
  );
  refill(
    page,
    h(
      "main",
      { id: "main", class: "trouble" },
      h("h1", {}, title),
      h("p", {}, help),
      fault.reason === "no_token" ? form : retry,
    ),
  );
}

async function begin() {
  takeToken();
  await openSession();
  const about = await getJSON("v1/about");
  new App(about);
}

await loadTexts();
begin().catch(showTrouble);
