// Walks the page as a person does, in a real browser: every view, in both languages, with the keyboard, on a phone, in
// the dark, with a server that goes away and comes back. Each view is checked by axe-core and kept as a picture.
//
//     node walk.mjs [--altclip target/release/altclip] [--model nano] [--fresh] [--out ../../build/web]
//
// Without `--altclip` it walks the stand-in; with `--fresh` the page's files are those of the repository, so that they can
// be worked on without building.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { DEMO, draw } from './pictures.mjs';
import { makeIndex, serve } from './served.mjs';
import { settled, Watch } from './watch.mjs';

const { values: options } = parseArgs({
  options: {
    altclip: { type: 'string' },
    model: { type: 'string', default: 'nano' },
    fresh: { type: 'boolean', default: false },
    out: { type: 'string', default: '../../build/web' },
    chromium: { type: 'string', default: process.env.CHROMIUM ?? '/usr/bin/chromium' },
  },
});
const KEY = 'key-of-the-walk';
const altclip = options.altclip && resolve(options.altclip);
const out = resolve(options.out);
const work = mkdtempSync(join(tmpdir(), 'altclip-web-'));
const folder = join(work, 'pictures');
const index = join(work, 'index');
const log = join(out, 'server.log');
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
if (!existsSync(options.chromium)) throw new Error(`${options.chromium} is not there; set CHROMIUM`);

const browser = await chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox', '--disable-gpu'] });
const watch = new Watch(out, options.fresh);
const servers = [];
try {
  const easel = await browser.newPage();
  await draw(easel, folder, ['plain', 'mirrored', 'turned']);
  makeIndex({ altclip, model: options.model, index, folder });
  const server = await serve({ altclip, model: options.model, index, key: KEY, log });
  servers.push(server);
  await desktop(server);
  await phone(server);
  await withoutIndex();
} catch (error) {
  const pages = browser.contexts().flatMap((context) => context.pages());
  await pages.at(-1)?.screenshot({ path: join(out, 'failed.png') });
  throw error;
} finally {
  for (const server of servers) await server.stop();
  await browser.close();
  rmSync(work, { recursive: true, force: true });
  report();
}

function report() {
  for (const fault of watch.faults) console.error(`fault: ${fault}`);
  console.log(`${watch.looked.length} views, ${watch.faults.length} faults; pictures in ${out}`);
  process.exitCode = watch.faults.length > 0 ? 1 : 0;
}

/** On a desk, in English, in the light. */
async function desktop(server) {
  const page = await watch.open(browser, { viewport: { width: 1280, height: 860 }, locale: 'en-GB', colorScheme: 'light' });
  await page.goto(server.url);

  // The key: one that is wrong, then the right one.
  await page.getByRole('dialog').waitFor();
  await page.getByLabel('API key', { exact: true }).fill('wrong');
  await page.keyboard.press('Enter');
  await page.getByText('did not accept').waitFor();
  await watch.look(page, 'desk-key');
  await page.getByLabel('API key', { exact: true }).fill(KEY);
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByText(options.model, { exact: false }).first().waitFor();
  await page.locator('.recent img').first().waitFor();
  await watch.look(page, 'desk-home');

  // English, with the keyboard alone.
  await page.keyboard.press('/');
  await page.keyboard.type('red apple');
  await page.keyboard.press('Enter');
  await page.getByRole('status').getByText(/\d+ match/).waitFor();
  await tile(page, 'red apple').waitFor();
  await watch.look(page, 'desk-english');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowRight');
  const second = await focused(page);
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').locator('.stage > img').waitFor();
  await watch.look(page, 'desk-lightbox');
  await page.keyboard.press('ArrowLeft');
  await page.getByText('1 of ').waitFor();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal(await focused(page), second, 'closing gives the focus back');

  // Chinese finds the same.
  await ask(page, '红苹果');
  await tile(page, 'red apple').waitFor();
  await page.getByLabel('Scores').check();
  await watch.look(page, 'desk-chinese');
  await page.getByLabel('Scores').uncheck();

  // Nothing.
  await ask(page, 'spreadsheet of taxes');
  await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
  await watch.look(page, 'desk-no-match');

  // Two languages side by side.
  await page.getByRole('button', { name: 'Two languages' }).click();
  await page.getByLabel('What is in the picture?').fill('cat face');
  await page.getByLabel('The same in another language').fill('猫脸');
  await page.keyboard.press('Enter');
  await page.getByText(/\d+ of \d+ shared/).waitFor();
  await page.locator('.tile.shared button').first().hover();
  assert.equal(await page.locator('.tile.lit').count(), 2, 'both sides light up');
  await page.mouse.move(0, 0);
  await page.locator('.tile.shared button').first().focus();
  assert.equal(await page.locator('.tile.lit').count(), 2, 'and do so for the keyboard');
  await watch.look(page, 'desk-two-languages');

  // Reloading keeps the question and the key.
  await page.reload();
  await page.getByText(/\d+ of \d+ shared/).waitFor();
  assert.equal(await page.getByLabel('The same in another language').inputValue(), '猫脸');
  await page.getByRole('button', { name: 'Two languages' }).click();

  // A picture, dropped; then with words; then pasted.
  await page.getByRole('link', { name: 'AltCLIP' }).click();
  await page.locator('.recent img').first().waitFor();
  const file = await transfer(page, 'dog face.png');
  await page.dispatchEvent('body', 'dragenter', { dataTransfer: file });
  await page.getByText('Drop to search').waitFor();
  await page.screenshot({ path: join(out, 'desk-dragging.png') });
  await page.dispatchEvent('body', 'drop', { dataTransfer: file });
  await page.locator('.answer').waitFor();
  await settled(page);
  // The browser does not take a drop that is made up for a person's wish: that the view changes is no jump.
  await page.evaluate(() => globalThis.shifts.splice(0));
  await tile(page, 'dog face').waitFor();
  // What is not known is said.
  await page.getByText('No likelihoods').waitFor();
  await watch.look(page, 'desk-picture');
  await ask(page, 'snow');
  await watch.look(page, 'desk-picture-and-words');
  await page.getByRole('button', { name: 'Remove the picture' }).click();
  await page.evaluate((data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true })), await transfer(page, 'rose.png'));
  await page.locator('.slot img').waitFor();
  await page.getByRole('button', { name: 'Remove the picture' }).click();

  // A question that is not well formed.
  await ask(page, 'cat AND');
  await page.getByRole('alert').getByText('E7006').waitFor();
  await watch.look(page, 'desk-bad-question');

  // Classifying.
  await page.getByRole('link', { name: 'Classify' }).click();
  await watch.look(page, 'desk-classify-empty');
  await page.locator('input[type=file]').setInputFiles(join(DEMO, 'red apple.png'));
  await page.getByLabel('Labels').fill('a cat\n红苹果\nein Haus\na red bicycle\n太阳');
  await page.getByRole('button', { name: 'Classify', exact: true }).click();
  await page.getByText('%').first().waitFor();
  await watch.look(page, 'desk-classify');
  await page.locator('summary').click();
  await page.getByLabel('Templates').fill('no place');
  await page.getByRole('button', { name: 'Classify', exact: true }).click();
  await page.getByText('Each template needs').waitFor();
  await page.getByLabel('Templates').fill('a picture of {}\n一张{}的图片');
  await page.keyboard.press('Control+Enter');
  await watch.look(page, 'desk-classify-templates');

  // Near-duplicates.
  await page.getByRole('link', { name: 'Duplicates' }).click();
  await page.getByText('Group 1:').waitFor();
  await watch.look(page, 'desk-duplicates');

  // The index, as it grows.
  await page.getByRole('link', { name: 'Index', exact: true }).click();
  await page.getByRole('button', { name: 'Update the index' }).waitFor();
  await watch.look(page, 'desk-index');
  await draw(await browser.newPage(), join(folder, 'more'), ['mirrored', 'turned']);
  // The miniature is done at once: a slower one is played while it is looked at.
  const slow = { images: 72, model: 'nano', updating: { done: 120, total: 400, added: 117, failed: 3, seconds: 40 }, last_error: null };
  await page.route('**/index', (route) => route.fulfill({ json: slow }));
  await page.getByRole('button', { name: 'Update the index' }).click();
  await page.getByText('120 of 400').waitFor();
  await watch.look(page, 'desk-index-updating');
  await page.unroute('**/index');
  await page.getByText('up to date').waitFor();
  await watch.look(page, 'desk-index-updated');
  if (altclip) await page.locator('dd', { hasText: '120' }).waitFor();

  // The server goes away, and comes back.
  await page.getByRole('link', { name: 'Search' }).click();
  await ask(page, 'house');
  await tile(page, 'house').waitFor();
  await server.stop('SIGKILL');
  await ask(page, 'rocket');
  await page.getByRole('alert').getByText('does not answer').waitFor();
  await watch.look(page, 'desk-server-gone');
  await server.start();
  await tile(page, 'rocket').waitFor();
  assert.equal(await page.getByText('No connection').count(), 0);

  // The other language of the interface is remembered.
  await page.getByRole('button', { name: '中文' }).click();
  await page.getByText('可能性较低').waitFor();
  await watch.look(page, 'desk-interface-chinese');
  await page.reload();
  await page.getByRole('link', { name: '分类' }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');

  // Without a key the person may decline.
  await page.getByRole('button', { name: '清除 API 密钥' }).click();
  await page.getByRole('searchbox').fill('cat');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('alert').getByText('需要 API 密钥').waitFor();
  await page.context().close();
}

/** On a phone, in Chinese, in the dark, with less motion. */
async function phone(server) {
  const page = await watch.open(browser, {
    viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true,
    locale: 'zh-CN', colorScheme: 'dark', reducedMotion: 'reduce',
  });
  await page.goto(server.url);
  await page.getByLabel('API 密钥', { exact: true }).fill(KEY);
  await page.getByRole('button', { name: '继续' }).tap();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.locator('.recent img').first().waitFor();
  await watch.look(page, 'phone-home');
  await ask(page, '猫脸');
  await tile(page, 'cat face').waitFor();
  await watch.look(page, 'phone-chinese');
  await page.locator('.tile button').first().tap();
  await page.getByRole('dialog').locator('.stage > img').waitFor();
  await watch.look(page, 'phone-lightbox');
  await page.getByRole('button', { name: '查找相似图片' }).tap();
  await page.locator('.slot img').waitFor();
  await watch.look(page, 'phone-similar');
  assert.equal(await page.evaluate(() => scrollY), 0, 'a new answer is read from its start');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'the focus is not lost');
  await page.getByRole('button', { name: '移除图片' }).tap();
  await ask(page, 'red apple');
  await tile(page, 'red apple').waitFor();
  await watch.look(page, 'phone-english');
  await page.getByRole('button', { name: '双语对照' }).tap();
  await page.getByLabel('用另一种语言表达同样的意思').fill('红苹果');
  await page.keyboard.press('Enter');
  await page.getByText(/张相同/).waitFor();
  await watch.look(page, 'phone-two-languages');
  await page.getByRole('link', { name: '分类' }).tap();
  await page.locator('input[type=file]').setInputFiles(join(DEMO, 'sun.png'));
  await page.getByLabel('标签').fill('太阳\na cat\n火');
  await page.getByRole('button', { name: '分类', exact: true }).tap();
  await page.getByText('%').first().waitFor();
  await watch.look(page, 'phone-classify');
  await page.getByRole('link', { name: '重复图片' }).tap();
  await page.getByText('第 1 组：').waitFor();
  await watch.look(page, 'phone-duplicates');
  await page.getByRole('link', { name: '图库' }).tap();
  await page.getByRole('button', { name: '更新图库' }).waitFor();
  await watch.look(page, 'phone-index');
  const motion = await page.evaluate(() => getComputedStyle(document.querySelector('button')).transitionDuration);
  assert.equal(motion, '0s', 'less motion is no motion');
  await page.context().close();
}

/** A server that has a model alone. */
async function withoutIndex() {
  const server = await serve({ altclip, model: options.model, log });
  servers.push(server);
  const page = await watch.open(browser, { viewport: { width: 1280, height: 860 }, locale: 'en-GB' });
  await page.goto(server.url);
  await page.getByText('has no index').waitFor();
  await watch.look(page, 'desk-no-index');
  await page.context().close();
}

/** Asks in the first box, and waits for the answer. */
async function ask(page, text) {
  await page.getByRole('searchbox').first().fill(text);
  await page.keyboard.press('Enter');
  await page.waitForFunction((query) => decodeURIComponent(location.hash.replaceAll('+', ' ')).includes(query), text);
  await settled(page);
}

/** The first picture whose file's name has these words. */
function tile(page, name) {
  return page.locator('.tile button', { hasText: name }).first();
}

function focused(page) {
  return page.evaluate(() => document.activeElement.title);
}

/** A file of the demo, as a drag or the clipboard holds it. */
async function transfer(page, name) {
  const bytes = readFileSync(join(DEMO, name)).toString('base64');
  return page.evaluateHandle(({ bytes: text, name: of }) => {
    const held = new DataTransfer();
    held.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], of, { type: 'image/png' }));
    return held;
  }, { bytes, name });
}
