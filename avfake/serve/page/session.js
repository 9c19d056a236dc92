// This browser session's clips: what is sent, waits, is judged, and came back. The server has no
// list of clips; their ids are kept here, and go when the tab is closed.

import { Fault, getJSON, request, upload } from "./api.js";

const KEPT = "avfake.clips";

/**
 * One clip. `phase`: "waiting" (its turn to be sent has not come), "sending", "held" (the server is
 * full; sent again at `again`), "sent" (`job` tells the rest), "failed" (`fault` tells why).
 */
class Entry {
  constructor(key, name, size, file = null) {
    Object.assign(this, { key, name, size, file });
    this.phase = "waiting";
    this.share = 0; // of the upload
    this.job = null;
    this.fault = null;
    this.again = null; // Date.now() of the next attempt
    this.since = null; // Date.now() of the first sight of it at work
    this.stop = new AbortController();
  }

  get done() {
    return this.phase === "failed" || this.job?.state === "done";
  }

  get result() {
    return this.job?.result ?? null;
  }

  get answered() {
    return this.result?.status === "ok";
  }
}

/** Events: "change" (detail: the entry), "list" (entries came or went), "line" (`lost` changed). */
export class Session extends EventTarget {
  /** `keep`: seconds that the server keeps a clip nobody asks about; `most`: bytes of a file. */
  constructor(keep, most) {
    super();
    this.keep = keep;
    this.most = most;
    this.asked = Date.now(); // when clips that are done were asked about last
    this.entries = [];
    this.lost = false; // the server does not answer
    this.#turn();
  }

  find(key) {
    return this.entries.find((entry) => entry.key === key) ?? null;
  }

  /** Files that a person chose; returns their entries. */
  add(files) {
    const added = files.map((file) => {
      const entry = new Entry(newKey(), file.name, file.size, file);
      if (file.size > this.most) {
        entry.phase = "failed";
        entry.fault = new Fault("file_too_large", "", 413);
      }
      return this.#enter(entry);
    });
    this.#send();
    return added;
  }

  async addSample() {
    const job = await getJSON("v1/predictions/sample", { method: "POST" });
    const entry = this.#enter(new Entry(newKey(), job.name, job.size));
    this.#heard(entry, job);
    return entry;
  }

  /** What was there before the page was loaded anew. */
  restore() {
    for (const { key, id, name, size } of JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")) {
      const entry = new Entry(key, name, size);
      entry.phase = "sent";
      entry.job = { id, name, size, state: "queued", position: null, progress: null, result: null };
      this.#enter(entry);
    }
  }

  /** Send it again, where its sending failed. */
  retry(entry) {
    entry.fault = entry.again = null;
    entry.stop = new AbortController();
    entry.phase = "waiting";
    this.#changed(entry);
    this.#send();
  }

  /** Stop what is under way and delete the clip, here and on the server. */
  async remove(entry) {
    entry.stop.abort();
    if (entry.job !== null && entry.fault === null) {
      try {
        await request(`v1/predictions/${entry.job.id}`, { method: "DELETE" });
      } catch (fault) {
        if (fault.status !== 404) throw fault;
      }
    }
    this.entries = this.entries.filter((other) => other !== entry);
    this.#keep();
    this.dispatchEvent(new Event("list"));
  }

  #enter(entry) {
    this.entries.push(entry);
    this.#keep();
    this.dispatchEvent(new Event("list"));
    return entry;
  }

  /** Send what waits, one file at a time: a line shared by ten uploads finishes none early. */
  async #send() {
    if (this.entries.some((entry) => entry.phase === "sending")) return;
    const entry = this.entries.find(
      (waiting) =>
        waiting.phase === "waiting" || (waiting.phase === "held" && Date.now() >= waiting.again),
    );
    if (entry === undefined) return;
    entry.phase = "sending";
    entry.share = 0;
    this.#changed(entry);
    try {
      const tell = (share) => {
        entry.share = share;
        this.#changed(entry);
      };
      const job = await upload(entry.file, tell, entry.stop.signal);
      entry.file = null;
      this.#heard(entry, job);
    } catch (fault) {
      this.#sendingFailed(entry, fault);
    }
    this.#send();
  }

  #sendingFailed(entry, fault) {
    if (fault.reason === "cancelled") return;
    if (fault.reason === "busy") {
      entry.phase = "held";
      entry.again = Date.now() + 1000 * Math.min(60, fault.retryAfter ?? 5);
    } else {
      entry.phase = "failed";
      entry.fault = fault;
    }
    this.#changed(entry);
  }

  #heard(entry, job) {
    if (job.state === "working" && entry.since === null) entry.since = Date.now();
    entry.phase = "sent";
    entry.job = job;
    entry.name = job.name; // the server takes out what could mislead
    this.#keep();
    this.#changed(entry);
  }

  /** Ask after every clip that is not done, wait, and again. */
  async #turn() {
    const open = this.entries.filter((entry) => entry.phase === "sent" && !entry.done);
    for (const entry of open) {
      try {
        const job = await getJSON(`v1/predictions/${entry.job.id}`, { signal: entry.stop.signal });
        this.#line(false);
        this.#heard(entry, job);
      } catch (fault) {
        if (fault.name === "AbortError") continue;
        if (fault.reason === "unreachable" || fault.status >= 500) {
          this.#line(true);
          break;
        }
        entry.phase = "failed";
        entry.fault = fault.status === 404 ? new Fault("gone", "", 404) : fault;
        this.#changed(entry);
      }
    }
    if (this.lost && open.length === 0) await this.#knock();
    if (this.entries.some((entry) => entry.phase === "held")) this.#send();
    if (Date.now() - this.asked > 250 * this.keep) await this.#hold();
    setTimeout(() => this.#turn(), this.lost ? 2000 : open.length > 3 ? 1000 : 350);
  }

  /** The server forgets clips that nobody asks about: this page is open, so it asks. */
  async #hold() {
    this.asked = Date.now();
    for (const entry of this.entries.filter((one) => one.result !== null)) {
      try {
        await request(`v1/predictions/${entry.job.id}`);
      } catch {
        // Its answer is here all the same; what is still to be fetched will tell.
      }
    }
  }

  async #knock() {
    try {
      await request("healthz");
      this.#line(false);
    } catch {
      // Still away: the next turn knocks again.
    }
  }

  #line(lost) {
    if (this.lost === lost) return;
    this.lost = lost;
    this.dispatchEvent(new Event("line"));
  }

  #keep() {
    const kept = this.entries
      .filter((entry) => entry.job !== null && entry.fault === null)
      .map(({ key, job, name, size }) => ({ key, id: job.id, name, size }));
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  }

  #changed(entry) {
    this.dispatchEvent(new CustomEvent("change", { detail: entry }));
  }
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(36)).join("");
}
