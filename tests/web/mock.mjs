// A stand-in for the server: its routes, over the demo's pictures, with made-up but steady scores. It can be
// told to fail.
//
//     node tests/web/mock.mjs [--port 8080] [--api-key KEY] [--no-index]

import { createServer } from 'node:http';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isPage, source } from './sources.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PICTURES = join(ROOT, 'crates/nano/pictures');
const CHINESE = { 'red apple': '红苹果', 'cat face': '猫', 'dog face': '狗', sun: '太阳', locomotive: '火车', rose: '玫瑰花', house: '房子', fire: '火', rocket: '火箭', bicycle: '自行车', rainbow: '彩虹' };

const { values: options } = parseArgs({
  options: { port: { type: 'string', default: '0' }, 'api-key': { type: 'string' }, 'no-index': { type: 'boolean' } },
});
const pictures = readdirSync(PICTURES).sort().map((file, index) => ({ id: index + 1, path: join('/home/pictures', file), file: join(PICTURES, file), name: file.replace('.png', '') }));
let updating = null;

createServer(async (request, response) => {
  try {
    const answer = await handle(request);
    const body = answer.body instanceof Buffer ? answer.body : JSON.stringify(answer.body ?? null);
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json', 'x-content-type-options': 'nosniff', ...answer.headers });
    response.end(body);
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(Number(options.port), '127.0.0.1', function listening() {
  console.log(JSON.stringify({ listening: `http://127.0.0.1:${this.address().port}` }));
});

async function handle(request) {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  if (isPage(pathname)) return source(pathname) ?? lost(pathname);
  if (pathname === '/livez') return { body: 'ok' };
  if (options['api-key'] && request.headers.authorization !== `Bearer ${options['api-key']}`) {
    return problem(401, 'E8001', 'the API key is missing or wrong', '', 'send it as `Authorization: Bearer KEY`');
  }
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks).toString()) : {};
  const [, route, id] = pathname.split('/');
  switch (`${request.method} ${pathname}`) {
    case 'GET /info': return { body: { model_id: 'nano', max_input_length: 77, max_client_batch_size: 2048, languages: ['en', 'zh', 'ja', 'ko', 'es', 'fr', 'ru', 'ar', 'it'], index: !options['no-index'] } };
    case 'POST /search': return search(body);
    case 'POST /classify': return classify(body);
    case 'GET /index': return { body: status() };
    case 'POST /index/update': return update();
    case 'GET /index/pictures': return { body: { pictures: pictures.map(({ id }) => short(id)).reverse() } };
    case 'GET /index/duplicates': return { body: { groups: Number(searchParams.get('threshold')) > 0.98 ? [] : [[1, 2, 3], [7, 9]].map((group) => group.map(short)) } };
    default:
  }
  const picture = pictures[Number(id) - 1];
  if (picture && ['thumbnail', 'picture'].includes(route)) return { body: readFileSync(picture.file), headers: { 'content-type': 'image/png' } };
  return lost(pathname);
}

const short = (id) => ({ id, path: pictures[id - 1].path });

const lost = (pathname) => problem(404, 'E8004', 'there is nothing at this address', pathname, '');

function problem(status, code, title, detail, help, headers = {}) {
  return { status, body: { type: 'about:blank', title, status, detail, code, help }, headers: { 'content-type': 'application/problem+json', ...headers } };
}

/** A number in [0, 1) that depends on the text alone. */
function noise(text) {
  let hash = 2166136261;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return hash / 2 ** 32;
}

function search({ query = '', image, top_k: top = 10 }) {
  if (query === '!busy') return problem(503, 'E8006', 'the server is full', '', 'try again later', { 'retry-after': '30' });
  if (query.endsWith(' AND')) return problem(400, 'E7006', 'a query or filter is not valid', `nothing follows AND in \`${query}\``, 'put quotes around words that are meant as they stand');
  const english = /^[\x00-\x7f]*$/.test(query) && !image;
  const words = query.toLowerCase().split(/\s+/);
  const scored = pictures.map((picture) => {
    const names = [...picture.name.split(' '), CHINESE[picture.name] ?? ''];
    const hit = names.some((name) => name && (words.includes(name) || query.includes(name) || (name.length > 1 && query.length > 1 && name.includes(query))));
    const fair = noise(picture.name + (english ? query : query.length));
    return { id: picture.id, path: picture.path, score: hit ? 0.31 + 0.05 * fair : 0.1 + 0.12 * fair, p_match: english ? (hit ? 0.75 + 0.24 * fair : 0.4 * fair * fair) : null };
  });
  const matches = scored.sort((a, b) => b.score - a.score).slice(0, top);
  const none = english && !matches.some(({ p_match: p }) => p >= 0.5);
  const reason = image ? 'probabilities are known for texts only' : 'nothing was fitted for the language of the query';
  return { body: { query, no_match: none, ...(english ? {} : { uncalibrated: reason }), matches } };
}

function classify({ labels }) {
  const weights = labels.map((label) => Math.exp(6 * noise(label)));
  const sum = weights.reduce((a, b) => a + b, 0);
  return { body: { labels: labels.map((label, index) => ({ label, score: weights[index] / sum })).sort((a, b) => b.score - a.score) } };
}

function status() {
  if (updating) {
    const seconds = (Date.now() - updating) / 1000;
    const done = Math.min(400, Math.floor(100 * Math.max(0, seconds - 0.5)));
    if (done < 400) return { ...index(), updating: { done, total: seconds < 0.5 ? 0 : 400, added: Math.floor(done / 3), failed: Math.floor(done / 150), seconds } };
    updating = null;
  }
  return index();
}

const index = () => ({ images: pictures.length, model: 'nano', fingerprint: '5f0c2e7b91d84a36', path: '/home/pictures.index', updating: null, last_error: null });

function update() {
  if (updating) return problem(409, 'E8007', 'an update runs already', '', 'wait for it');
  updating = Date.now();
  return { status: 202, body: status() };
}
