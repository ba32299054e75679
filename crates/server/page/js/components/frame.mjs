// Header and footer, and the line that says when the server is gone.

import { online } from '../connection.mjs';
import { html } from '../html.mjs';
import { forget, key } from '../key.mjs';
import { address, VIEWS } from '../route.mjs';
import { server } from '../server.mjs';
import { choose, language, t } from '../words.mjs';
import { Icon } from './icon.mjs';

const ICONS = { search: 'search', classify: 'tag', duplicates: 'copies', index: 'stack' };

export function Header({ view }) {
  const other = language.get() === 'zh' ? 'en' : 'zh';
  const known = key.use();
  return html`
    <header class="top">
      <a class="brand" href=${address('search')}><img src="assets/icon.svg" alt="" width="28" height="28" />AltCLIP</a>
      <nav class="tabs" aria-label=${t('views')}>
        ${VIEWS.map((name) => html`
          <a key=${name} href=${address(name)} aria-current=${name === view ? 'page' : undefined}>
            <${Icon} name=${ICONS[name]} /><span>${t(name)}</span>
          </a>`)}
      </nav>
      <div class="tools">
        ${known && html`
          <button type="button" class="plain round" title=${t('forget_key')} aria-label=${t('forget_key')} onClick=${forget}>
            <${Icon} name="key" />
          </button>`}
        <button type="button" class="plain" lang=${other} title=${t('switch_language')} onClick=${() => choose(other)}>
          ${t('other_language')}
        </button>
      </div>
    </header>`;
}

export function Offline() {
  const reached = online.use();
  return html`<div class="offline" role="status">${!reached && html`<p>${t('offline_banner')}</p>`}</div>`;
}

export function Footer() {
  const { value } = server.use();
  return html`
    <footer class="foot">
      <p class="keys" aria-hidden="true"><kbd>/</kbd> <kbd>←↑↓→</kbd> <kbd>Enter</kbd> <kbd>Esc</kbd> <span>${t('keys_help')}</span></p>
      <p>${value?.model_id ?? ''}${!key.use() && html` <a href="docs">${t('docs')}</a>`}</p>
    </footer>`;
}
