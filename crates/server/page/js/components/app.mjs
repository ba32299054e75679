// The frame: header, the view, footer; and what lies above all of it.

import { online } from '../connection.mjs';
import { html, useEffect, useErrorBoundary, useRef } from '../html.mjs';
import { asked as keyAsked, key } from '../key.mjs';
import * as files from '../files.mjs';
import { route } from '../route.mjs';
import { learn } from '../server.mjs';
import * as slash from '../slash.mjs';
import { language, locale, t } from '../words.mjs';
import { ClassifyView } from '../views/classify.mjs';
import { DuplicatesView } from '../views/duplicates.mjs';
import { IndexView } from '../views/index.mjs';
import { SearchView } from '../views/search.mjs';
import { Footer, Header, Offline } from './frame.mjs';
import { KeyDialog } from './key-dialog.mjs';
import { Bug } from './problem.mjs';

const VIEW = { search: SearchView, classify: ClassifyView, duplicates: DuplicatesView, index: IndexView };

export function App() {
  const spoken = language.use();
  const { view, params } = route.use();
  const asking = keyAsked.use();
  const [known, reached] = [key.use(), online.use()];
  const [error] = useErrorBoundary();
  const main = useRef(null);
  const shown = useRef(view);

  useEffect(() => {
    const deaf = [files.listen(), slash.listen()];
    return () => deaf.forEach((stop) => stop());
  }, []);
  // Asked again where it was refused or not answered.
  useEffect(() => { learn(); }, [known, reached]);
  useEffect(() => { document.documentElement.lang = locale(); }, [spoken]);
  useEffect(() => {
    document.title = [view === 'search' ? params.q : t(view), 'AltCLIP'].filter(Boolean).join(' · ');
    // A new view is announced and read from its start; the first one is left to the browser.
    if (shown.current !== view) {
      shown.current = view;
      scrollTo(0, 0);
      if (!main.current.contains(document.activeElement)) main.current.focus({ preventScroll: true });
    }
  }, [view, params.q, spoken]);

  if (error) return html`<main class="page" tabindex="-1"><${Bug} error=${error} /></main>`;
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>${t('skip')}</a>
    <${Header} view=${view} />
    <${Offline} />
    <main id="main" class="page" tabindex="-1" ref=${main}><${VIEW[view]} params=${params} /></main>
    <${Footer} />
    <${Hover} view=${view} />
    ${asking && html`<${KeyDialog} refused=${asking.refused} />`}
  `;
}

function Hover({ view }) {
  if (!files.hovering.use()) return null;
  return html`<div class="hover" aria-hidden="true"><p>${t(view === 'classify' ? 'drop_classify' : 'drop_search')}</p></div>`;
}
