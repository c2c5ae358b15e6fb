// Keeps the page and Python in the browser, so that it opens with no network at all. What changes
// (tokens, replication) always goes to the network.
const CACHE = "fieldbook-1";

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    const list = await (await fetch("files.json", { cache: "no-cache" })).json();
    await cache.addAll(["./", "files.json", ...list.page, ...list.archives, ...list.modules]);
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  })());
});

const OURS = new URL("./", self.location.href);
const live = (path) => path === "token" || path.startsWith("v1/");

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const path = url.pathname.slice(OURS.pathname.length);
  if (event.request.method !== "GET" || url.origin !== OURS.origin || live(path)) return;
  // The newest while there is a network, what was kept when there is none.
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    try {
      const answer = await fetch(event.request);
      if (answer.ok) await cache.put(event.request, answer.clone());
      return answer;
    } catch (error) {
      const kept = await cache.match(event.request, { ignoreSearch: true });
      if (kept) return kept;
      throw error;
    }
  })());
});
