// Small pictures of the index: fetched with the key, a few at a time, when they come into sight.

import { thumbnail } from './api.mjs';
import { online } from './connection.mjs';
import { useEffect, useState } from './html.mjs';
import { key } from './key.mjs';

const AT_ONCE = 6;
const KEPT = 800;
/** Pixels: twice as many for dense screens. */
const SIZE = (globalThis.devicePixelRatio ?? 1) > 1.25 ? 512 : 256;

const cache = new Map();
const queue = [];
let running = 0;

/** The object URL of a thumbnail; null while it is fetched, undefined where there is none. */
export function useThumbnail(id, element) {
  const [url, setUrl] = useState(cache.get(id) ?? null);
  useEffect(() => {
    if (cache.has(id)) return setUrl(cache.get(id));
    setUrl(null);
    const abort = new AbortController();
    let failed = false;
    const fail = () => {
      if (abort.signal.aborted) return;
      failed = true;
      setUrl(undefined);
    };
    const load = () => { failed = false; enqueue(id, abort.signal).then(setUrl, fail); };
    const sight = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      sight.disconnect();
      load();
    }, { rootMargin: '600px' });
    if (element.current) sight.observe(element.current);
    // What could not be had may be had later.
    const again = () => { if (failed && online.get()) load(); };
    const deaf = [online.subscribe(again), key.subscribe(again)];
    return () => { sight.disconnect(); deaf.forEach((stop) => stop()); abort.abort(); };
  }, [id]);
  return url;
}

function enqueue(id, signal) {
  return new Promise((done, fail) => {
    queue.push({ id, signal, done, fail });
    next();
  });
}

function next() {
  while (running < AT_ONCE && queue.length > 0) {
    const { id, signal, done, fail } = queue.shift();
    if (signal.aborted) { fail(signal.reason); continue; }
    running += 1;
    fetched(id, signal).then(done, fail).finally(() => { running -= 1; next(); });
  }
}

async function fetched(id, signal) {
  if (!cache.has(id)) {
    const url = URL.createObjectURL(await thumbnail(id, SIZE, signal));
    cache.set(id, url);
    if (cache.size > KEPT) {
      const [oldest, old] = cache.entries().next().value;
      cache.delete(oldest);
      URL.revokeObjectURL(old);
    }
  }
  return cache.get(id);
}
