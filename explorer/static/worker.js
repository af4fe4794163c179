// The service worker of a page without a server: it keeps the page's files, so that the page also works offline after
// the first visit. Data has the page's digest in its address and never changes; the rest is asked of the host first.

const CACHE = `cma-site ${registration.scope}`;
const keeps = ({ url, ok, status }) => ok && status === 200 && new URL(url).origin === location.origin;

async function answer(request) {
  const cache = await caches.open(CACHE), kept = await cache.match(request);
  if (kept && new URL(request.url).search) return kept;
  const fresh = await fetch(request).catch((error) => { if (kept) return kept; throw error; });
  if (fresh !== kept && keeps(fresh)) await cache.put(request, fresh.clone());
  return fresh;
}

/** Fetch what is missing of the files of this version of the page, and forget those of older versions. */
async function keep({ names, digest }) {
  const cache = await caches.open(CACHE);
  for (const { url } of await cache.keys()) {
    const { search } = new URL(url);
    if (search && search !== `?${digest}`) await cache.delete(url);
  }
  for (const name of names) if (!(await cache.match(name))) await cache.add(name).catch(() => {});  // later, when it is shown
}

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("message", (event) => event.waitUntil(keep(event.data)));
addEventListener("fetch", (event) => event.request.method === "GET" && event.respondWith(answer(event.request)));
