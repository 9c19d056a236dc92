// The server's API, as described in openapi.json. Addresses are relative: a proxy may serve the
// page under a folder of its own.

const TOKEN = "avfake.token";

/** What the server, or the way to it, says is wrong. `reason`: a snake_case code. */
export class Fault extends Error {
  constructor(reason, message = "", status = 0, retryAfter = null) {
    super(message);
    this.reason = reason;
    this.status = status;
    this.retryAfter = retryAfter; // seconds, or null
  }
}

/** Keep the token that the address brought (#token=...), and take it out of the address. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return;
  setToken(given);
  history.replaceState(null, "", `${location.pathname}${location.search}#/`);
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** Have a cookie set where there is a token: video and img elements can send no header. */
export async function openSession() {
  if (sessionStorage.getItem(TOKEN) !== null) await request("v1/session", { method: "POST" });
}

export async function getJSON(path, options) {
  const answer = await request(path, options);
  return answer.json().catch(lost);
}

/** fetch, with the token, where every failure is a Fault. */
export async function request(path, options = {}) {
  const asked = { ...options, headers: headers(), cache: "no-store" };
  const answer = await fetch(path, asked).catch(lost);
  if (!answer.ok)
    throw faultOf(
      answer.status,
      await answer.text().catch(lost),
      answer.headers.get("Retry-After"),
    );
  return answer;
}

/** No answer, or half of one. */
function lost(error) {
  throw error.name === "AbortError" ? error : new Fault("unreachable");
}

/**
 * Upload a file. `tell(share)` hears how much has left; `signal` stops it. Resolves to the Job.
 * (XMLHttpRequest, for fetch does not tell how far an upload is.)
 */
export function upload(file, tell, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name);
    sending.open("POST", "v1/predictions");
    for (const [name, value] of Object.entries(headers())) sending.setRequestHeader(name, value);
    sending.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) tell(event.loaded / event.total);
    });
    sending.addEventListener("load", () => {
      const { status, responseText } = sending;
      if (status === 202) return resolve(JSON.parse(responseText));
      reject(faultOf(status, responseText, sending.getResponseHeader("Retry-After")));
    });
    sending.addEventListener("error", () => reject(new Fault("upload_lost")));
    sending.addEventListener("abort", () => reject(new Fault("cancelled")));
    signal.addEventListener("abort", () => sending.abort());
    sending.send(form);
  });
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

function faultOf(status, body, retryAfter) {
  let told = {};
  try {
    told = JSON.parse(body).error ?? {};
  } catch {
    // Not the server's own words: a proxy's page, say. Its status has to do.
  }
  const known = { 401: "no_token", 404: "not_found", 413: "file_too_large", 429: "busy" };
  const reason = told.reason ?? known[status] ?? "server_error";
  return new Fault(
    reason,
    told.message ?? "",
    status,
    retryAfter === null ? null : Number(retryAfter) || null,
  );
}
