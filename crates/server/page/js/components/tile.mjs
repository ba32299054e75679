// One picture of a grid, with what is known of it.

import { html } from '../html.mjs';
import { cosine, level, MATCHES, percent } from '../likelihood.mjs';
import { t } from '../words.mjs';
import { Icon } from './icon.mjs';
import { folderOf, nameOf, Thumbnail } from './thumbnail.mjs';

export function Tile({ picture, scores, paths, active, also, lit, light, onOpen }) {
  const { id, path, p_match: p, score } = picture;
  const judged = typeof p === 'number';
  const point = light && also ? { onMouseEnter: () => light(id), onMouseLeave: () => light(null), onFocusCapture: () => light(id), onBlurCapture: () => light(null) } : {};
  return html`
    <li class=${`tile${also ? ' shared' : ''}${lit ? ' lit' : ''}${judged && p < MATCHES ? ' weak' : ''}`} ...${point}>
      <button type="button" tabindex=${active ? 0 : -1} title=${path} onClick=${onOpen}>
        <${Thumbnail} id=${id} />
        ${also && html`<span class="also"><${Icon} name="link" /><span aria-hidden="true">${also}</span><span class="unseen">${t('shared_rank', also)}</span></span>`}
        <span class="said">
          ${judged && html`<span class="judged"><b>${percent(p)}</b> ${t(level(p))}</span><${Meter} share=${p} />`}
          ${(scores || !judged) && typeof score === 'number' && html`<span class="score">${t('similarity')} ${cosine(score)}</span>`}
          <span class="name">${nameOf(path)}</span>
          ${paths && html`<span class="folder">${folderOf(path)}</span>`}
        </span>
      </button>
    </li>`;
}

function Meter({ share }) {
  return html`<span class="meter" aria-hidden="true"><i style=${{ width: `${100 * share}%` }}></i></span>`;
}
