// The pictures of the walk: the demo's, each also mirrored and turned on other grounds, so that there are enough of
// them for probabilities, and near-duplicates.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const DEMO = fileURLToPath(new URL('../../crates/nano/pictures/', import.meta.url));

/** Writes them to `folder`, drawn by a browser's page; `kinds` says which: plain, mirrored, turned. */
export async function draw(page, folder, kinds) {
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(DEMO)) {
    const source = `data:image/png;base64,${readFileSync(join(DEMO, file)).toString('base64')}`;
    for (const kind of kinds) {
      const drawn = await page.evaluate(paint, { source, kind });
      const name = kind === 'plain' ? file : file.replace('.png', ` ${kind}.png`);
      writeFileSync(join(folder, name), Buffer.from(drawn.split(',')[1], 'base64'));
    }
  }
}

async function paint({ source, kind }) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const side = 224;
  const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
  const context = canvas.getContext('2d');
  context.fillStyle = { plain: '#ffffff', mirrored: '#ffffff', turned: '#e8f1fa' }[kind];
  context.fillRect(0, 0, side, side);
  context.globalCompositeOperation = kind === 'turned' ? 'multiply' : 'source-over';
  if (kind === 'mirrored') { context.translate(side, 0); context.scale(-1, 1); }
  if (kind === 'turned') { context.translate(side / 2, side / 2); context.rotate(0.35); context.scale(0.85, 0.85); context.translate(-side / 2, -side / 2); }
  context.drawImage(image, 0, 0, side, side);
  return canvas.toDataURL('image/png');
}
