// The server's routes, each a function: with the key, patient where the server is busy. Addresses are relative, so that a
// proxy may serve the page below a path.

import { askForKey, key } from './key.mjs';
import { lost } from './connection.mjs';
import { fromResponse, offline } from './problem.mjs';

/** How often a busy server is asked again, and the longest wait that it may ask for, in seconds. */
const TRIES = 3;
const PATIENCE = 5;

const json = (body) => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});

export const info = (signal) => get('info', signal);
export const indexStatus = (signal) => get('index', signal);
export const updateIndex = () => read('index/update', { method: 'POST' });
export const recentPictures = (limit, signal) => get(`index/pictures?limit=${limit}`, signal);
export const search = (body, signal) => read('search', { ...json(body), signal });
export const classify = (body, signal) => read('classify', { ...json(body), signal });
export const duplicates = (threshold, signal) => get(`index/duplicates?threshold=${threshold}`, signal);
export const thumbnail = async (id, size, signal) => (await ask(`thumbnail/${id}?size=${size}`, { signal, quiet: true })).blob();
export const picture = async (id, signal) => (await ask(`picture/${id}`, { signal })).blob();

const get = (path, signal) => read(path, { signal });

async function read(path, options) {
  const response = await ask(path, options);
  return response.json().catch(() => null);
}

/** A response that is well; anything else is a `Problem`. What is `quiet` never asks a person for the key. */
async function ask(path, { quiet = false, ...options }) {
  for (let tries = 1; ; tries += 1) {
    const used = key.get();
    const response = await send(path, options, used);
    if (response.ok) return response;
    const problem = await fromResponse(response);
    if (problem.kind === 'key') {
      // Somebody else may have been given a key since this was sent.
      const given = key.get() !== used ? key.get() : !quiet && await askForKey(Boolean(used));
      if (given) continue;
    }
    const again = problem.kind === 'busy' && problem.wait > 0 && problem.wait <= PATIENCE && tries < TRIES;
    if (!again) throw problem;
    await pause(problem.wait, options.signal);
  }
}

async function send(path, options, used) {
  const headers = { ...options.headers, ...(used ? { authorization: `Bearer ${used}` } : {}) };
  try {
    return await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    lost();
    throw offline();
  }
}

function pause(seconds, signal) {
  return new Promise((done, abort) => {
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      abort(signal.reason);
    });
  });
}
