// A server to walk: the program itself, or the stand-in.

import { spawn, spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MOCK = fileURLToPath(new URL('mock.mjs', import.meta.url));

/** Makes an index of a folder; the stand-in needs none. */
export function makeIndex({ altclip, model, index, folder }) {
  if (!altclip) return;
  const made = spawnSync(altclip, ['index', 'add', folder, '--index', index, '--model', model], { encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`altclip index add: ${made.stderr}`);
}

/**
 * Starts a server and waits until it listens: `{ url, stop, start }`; `start` takes the same port again. What it writes of
 * itself is added to the file `log`.
 */
export async function serve({ altclip, model, index, key, log }) {
  const served = { url: null, stop: null, start: null };
  let port = '0';
  served.start = async () => {
    const options = ['--port', port, ...(key ? ['--api-key', key] : [])];
    const child = altclip
      ? spawn(altclip, ['serve', '--model', model, ...(index ? ['--index', index] : []), ...options], { stdio: ['ignore', 'pipe', openSync(log, 'a')] })
      : spawn(process.execPath, [MOCK, ...(index ? [] : ['--no-index']), ...options], { stdio: ['ignore', 'pipe', openSync(log, 'a')] });
    const ended = new Promise((done) => child.once('exit', done));
    served.url = await listening(child, ended);
    port = new URL(served.url).port;
    served.stop = async (signal = 'SIGTERM') => { child.kill(signal); await ended; };
  };
  await served.start();
  return served;
}

function listening(child, ended) {
  return new Promise((done, fail) => {
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
      const line = text.split('\n').find((one) => one.startsWith('{"listening"'));
      if (line && text.includes('\n')) done(JSON.parse(line).listening);
    });
    ended.then((status) => fail(new Error(`the server ended with ${status}`)));
  });
}
