// How far an update is, in a bar and in words; aloud only now and then.

import { html, useEffect, useRef, useState } from '../html.mjs';
import { part } from '../likelihood.mjs';
import { t } from '../words.mjs';

/** Seconds between two announcements, and before a time is guessed. */
const ALOUD = 10_000;
const SETTLED = 2;

export function Progress({ done, total, added, failed, seconds }) {
  const known = total > 0;
  const words = known ? t('progress', done, total) : t('counting');
  return html`
    <div class="progress">
      <p class="line"><b>${t('updating')}</b> <span>${words}</span></p>
      <progress aria-label=${t('updating')} max=${known ? total : undefined} value=${known ? done : undefined}></progress>
      <p class="soft">
        <span>${t('added', added)}</span>
        ${failed > 0 && html`<span class="bad">${t('failed', failed)}</span>`}
        ${known && done > 0 && seconds > SETTLED && html`<span>${t('left', duration(seconds * (total - done) / done))}</span>`}
      </p>
      <${Aloud} words=${known ? `${t('updating')} ${part(done / total)}` : words} />
    </div>`;
}

/** A time that nobody should take for exact. */
function duration(seconds) {
  return seconds < 90 ? t('seconds', Math.max(1, Math.ceil(seconds / 5) * 5)) : t('minutes', Math.ceil(seconds / 60));
}

function Aloud({ words }) {
  const [said, say] = useState(words);
  const last = useRef(0);
  useEffect(() => {
    const now = Date.now();
    if (now - last.current < ALOUD) return;
    last.current = now;
    say(words);
  }, [words]);
  return html`<p class="unseen" role="status">${said}</p>`;
}
