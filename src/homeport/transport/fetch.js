// The browser's network for transport/fetch.py. Every promise is resolved, and with plain objects:
// Pyodide waits for ever for one that is rejected with something else than an Error.
(() => {
  const failed = (error) => ({
    failed: error?.name === "AbortError" || error?.name === "TimeoutError" ? "late" : "network",
    text: String(error?.message || error?.name || error),
  });
  const headersOf = (pairs) => Object.fromEntries(pairs);

  // → {status, type, retryAfter, accepted, packed, bytes} or {failed, text}. packed: how many bytes
  // the body had on its way.
  async function request(method, url, headers, body, limit_ms) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), limit_ms);
    try {
      const answer = await fetch(url, {
        method, headers: headersOf(headers), body: body === "" ? undefined : body,
        // "no-store" also keeps browsers from remembering that the node allows this page to ask, so
        // each request would be two; and no browser answers a POST from its cache.
        redirect: "manual", cache: method === "GET" ? "no-store" : "default",
        credentials: "omit", signal: abort.signal,
      });
      const bytes = new Uint8Array(await answer.arrayBuffer());
      const length = answer.headers.get("Content-Length");
      return {
        status: answer.type === "opaqueredirect" ? 302 : answer.status,
        type: answer.headers.get("Content-Type") ?? "",
        retryAfter: answer.headers.get("Retry-After") ?? "",
        accepted: answer.headers.get("Accept-Encoding") ?? "",
        packed: length === null ? bytes.length : Number(length),
        bytes,
      };
    } catch (error) {
      return failed(error);
    } finally {
      clearTimeout(timer);
    }
  }

  // What came in, until somebody asks for it: next(limit_ms) → {text}, {closed: code} or {failed}.
  class Inbox {
    constructor() { this.held = []; this.asked = null; }
    put(item) {
      if (this.asked) { const done = this.asked; this.asked = null; done(item); } else this.held.push(item);
    }
    next(limit_ms) {
      if (this.held.length) return Promise.resolve(this.held.shift());
      return new Promise((resolve) => {
        const timer = setTimeout(() => { this.asked = null; resolve({ failed: "late" }); }, limit_ms);
        this.asked = (item) => { clearTimeout(timer); resolve(item); };
      });
    }
  }

  function socket(url, first) {
    const inbox = new Inbox();
    const ws = new WebSocket(url);
    ws.onopen = () => ws.send(first);
    ws.onmessage = ({ data }) => inbox.put({ text: data });
    ws.onclose = ({ code }) => inbox.put({ closed: code });
    return { next: (limit_ms) => inbox.next(limit_ms), close: () => { ws.onclose = null; ws.close(); } };
  }

  // Server-sent events by fetch, which can send a header where EventSource cannot.
  function events(url, headers) {
    const inbox = new Inbox();
    const abort = new AbortController();
    (async () => {
      try {
        const answer = await fetch(url, {
          headers: headersOf(headers), redirect: "manual", cache: "no-store", credentials: "omit",
          signal: abort.signal,
        });
        const type = answer.headers.get("Content-Type") ?? "";
        if (answer.status !== 200 || !type.startsWith("text/event-stream")) {
          const status = answer.status === 200 || answer.type === "opaqueredirect" ? 404 : answer.status;
          inbox.put({ refused: status, retryAfter: answer.headers.get("Retry-After") ?? "" });
          return abort.abort();
        }
        const reader = answer.body.getReader();
        const decoder = new TextDecoder();
        for (let rest = "";;) {
          const { done, value } = await reader.read();
          if (done) break;
          const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
          rest = lines.pop();
          for (const line of lines) inbox.put(line.startsWith("data:") ? { text: line.slice(5) } : { sign: 1 });
        }
        inbox.put({ closed: 1006 });
      } catch (error) {
        inbox.put(failed(error));
      }
    })();
    return { next: (limit_ms) => inbox.next(limit_ms), close: () => abort.abort() };
  }

  return { request, socket, events };
})()
