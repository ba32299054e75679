// What of the page can be tested without a browser.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const PAGE = new URL('../../crates/server/page/', import.meta.url);
const load = (name) => import(new URL(`js/${name}`, PAGE));
const sources = readdirSync(new URL('js/', PAGE), { recursive: true }).filter((name) => name.endsWith('.mjs'));
const read = (name) => readFileSync(join(fileURLToPath(PAGE), 'js', name), 'utf8');

test('an address says what it is made of', async () => {
  const { address, parse } = await load('route.mjs');
  const params = { q: '红色 + car - "a & b"', q2: 'x=y?#' };
  assert.deepEqual(parse(address('search', params)), { view: 'search', params });
  assert.deepEqual(parse('#/nowhere'), { view: 'search', params: {} });
  assert.deepEqual(parse(''), { view: 'search', params: {} });
  assert.equal(address('classify', { q: '', k: undefined }), '#/classify');
});

test('overlap counts what both find among as many', async () => {
  const { overlap } = await load('overlap.mjs');
  const of = (...ids) => ids.map((id) => ({ id }));
  const { k, shared, share, left, right } = overlap(of(1, 2, 3, 4), of(3, 9, 1));
  assert.deepEqual([k, shared], [3, 2]);
  assert.ok(Math.abs(share - 2 / 3) < 1e-12);
  assert.deepEqual([...left], [[1, 3], [3, 1]]);
  assert.deepEqual([...right], [[1, 1], [3, 3]]);
  assert.equal(overlap([], of(1)).share, 0);
});

test('arrow keys follow columns and stay inside', async () => {
  const { step } = await load('arrows.mjs');
  // Three in the first row, two wider ones in the second.
  const box = (left, top, width) => ({ left, top, width });
  const boxes = [box(0, 0, 10), box(10, 0, 10), box(20, 0, 10), box(0, 50, 15), box(15, 50, 15)];
  assert.equal(step(boxes, 2, 'ArrowDown'), 4);
  assert.equal(step(boxes, 0, 'ArrowDown'), 3);
  assert.equal(step(boxes, 4, 'ArrowUp'), 2);
  assert.equal(step(boxes, 4, 'ArrowDown'), 4);
  assert.equal(step(boxes, 4, 'ArrowRight'), 4);
  assert.equal(step(boxes, 0, 'ArrowLeft'), 0);
  assert.equal(step(boxes, 0, 'End'), 4);
  assert.equal(step(boxes, 0, 'x'), null);
});

test('a swipe to the side turns a page, one down or a tap does not', async () => {
  const { swipes } = await load('swipe.mjs');
  const moves = [];
  const { onTouchStart, onTouchEnd } = swipes({ current: null }, (by) => moves.push(by));
  const swipe = (x, y, fingers = 1) => {
    onTouchStart({ touches: Array(fingers).fill({ clientX: 100, clientY: 100 }) });
    onTouchEnd({ changedTouches: [{ clientX: 100 + x, clientY: 100 + y }] });
  };
  [[-80, 10], [80, -10], [60, 60], [5, 0], [0, 90]].forEach(([x, y]) => swipe(x, y));
  swipe(-80, 0, 2);
  assert.deepEqual(moves, [1, -1]);
});

test('a probability is said in words, never as certainty', async () => {
  const { level, percent, said, share } = await load('likelihood.mjs');
  assert.deepEqual([0.99, 0.8, 0.5, 0.49, 0.1, 0].map(level), ['sure', 'likely', 'perhaps', 'unlikely', 'hardly', 'hardly']);
  assert.deepEqual([1, 0, 0.5].map(percent), ['99%', '1%', '50%']);
  assert.equal(said({ p_match: null }), '');
  assert.deepEqual([1, 0.991, 0.99, 0.5, 0.05, 0.001, 0.0009, 0].map(share), ['>99%', '>99%', '99%', '50%', '5.0%', '0.1%', '<0.1%', '<0.1%']);
});

test('both languages say everything', async () => {
  const { TABLES, preferred } = await load('words.mjs');
  const kinds = (table) => Object.fromEntries(Object.entries(table).map(([name, text]) => [name, typeof text]));
  assert.deepEqual(kinds(TABLES.zh), kinds(TABLES.en));
  assert.deepEqual(Object.keys(TABLES.zh.reasons), Object.keys(TABLES.en.reasons));
  assert.equal(preferred(null, ['fr-FR', 'zh-Hant-TW', 'en']), 'zh');
  assert.equal(preferred('en', ['zh-CN']), 'en');
  assert.equal(preferred('xx', ['fr']), 'en');
});

test('every word is used and every used word is there', async () => {
  const { TABLES } = await load('words.mjs');
  const text = sources.filter((name) => !name.startsWith('words-')).map(read).join('\n');
  const unused = Object.keys(TABLES.en).filter((name) => !new RegExp(`['"]${name}['"]`).test(text));
  // Names of views are taken from the list of views.
  assert.deepEqual(unused, []);
  const asked = [...text.matchAll(/\bt\('(\w+)'/g)].map(([, name]) => name);
  assert.deepEqual(asked.filter((name) => !(name in TABLES.en)), []);
});

test('only what is in the folder is imported', () => {
  for (const name of sources) {
    for (const [, path] of read(name).matchAll(/^(?:import|export) .* from '(.+)';$/gm)) {
      assert.ok(path.startsWith('.'), `${name} imports ${path}`);
      assert.ok(readFileSync(join(fileURLToPath(PAGE), 'js', name, '..', path)).length > 0);
    }
    assert.ok(!/innerHTML|eval\(|new Function|https?:\/\//.test(read(name)), name);
  }
});
