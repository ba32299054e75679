// Looks at a page: faults in its console, jumps of its layout, accessibility, and a screenshot.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { isPage, source } from './sources.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** Milliseconds that anything may take to appear. */
const PATIENCE = 15_000;
/** Cumulative layout shift that the web's own rule calls good is 0.1; here next to nothing is allowed. */
const MOST_SHIFT = 0.02;

export class Watch {
  /** `fresh`: the page's files are those of the repository, whatever the program carries. */
  constructor(folder, fresh) {
    this.folder = folder;
    this.fresh = fresh;
    this.faults = [];
    this.looked = [];
  }

  /** A page whose faults are collected. */
  async open(browser, options) {
    const context = await browser.newContext(options);
    await context.addInitScript(() => {
      globalThis.shifts = [];
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
          if (!entry.hadRecentInput) globalThis.shifts.push({ value: entry.value, of: entry.sources.map(({ node }) => node?.className || node?.nodeName) });
        }
      }).observe({ type: 'layout-shift', buffered: true });
    });
    context.setDefaultTimeout(PATIENCE);
    if (this.fresh) {
      await context.route(({ pathname }) => isPage(pathname), (route) => {
        const file = source(new URL(route.request().url()).pathname);
        return file ? route.fulfill({ status: 200, ...file }) : route.continue();
      });
    }
    const page = await context.newPage();
    page.on('pageerror', (error) => this.fault(page, `exception: ${error.stack}`));
    page.on('console', (message) => {
      // A refused or unanswered request is logged by the browser; the walk provokes some.
      const asked = message.text().startsWith('Failed to load resource');
      if (['error', 'warning'].includes(message.type()) && !asked) this.fault(page, message.text());
    });
    return page;
  }

  fault(page, text) {
    this.faults.push(`${new URL(page.url()).hash}: ${text}`);
  }

  /** Checks what is shown, and keeps a picture of it. */
  async look(page, name) {
    await settled(page);
    await page.screenshot({ path: join(this.folder, `${name}.png`) });
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    for (const { id, nodes } of violations) {
      for (const { html, failureSummary } of nodes) this.faults.push(`${name}: axe ${id}: ${html}\n    ${failureSummary}`);
    }
    const { wide, shifts } = await page.evaluate(() => ({
      wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
      shifts: globalThis.shifts.splice(0),
    }));
    if (wide) this.faults.push(`${name}: wider than the window`);
    const shift = shifts.reduce((sum, { value }) => sum + value, 0);
    if (shift > MOST_SHIFT) this.faults.push(`${name}: the layout jumped by ${shift.toFixed(3)}: ${JSON.stringify(shifts)}`);
    this.looked.push(name);
  }
}

/** Nothing moves and nothing is awaited any more. */
export async function settled(page) {
  await page.waitForFunction(() => {
    const seen = (element) => { const { top, bottom } = element.getBoundingClientRect(); return bottom > 0 && top < innerHeight; };
    const waiting = [...document.querySelectorAll('.tile .thumbnail.waiting')].some(seen);
    return !waiting && !document.querySelector('[aria-busy="true"]');
  });
  await page.evaluate(async () => {
    await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
    await Promise.all(document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity).map((one) => one.finished.catch(() => {})));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  });
}
