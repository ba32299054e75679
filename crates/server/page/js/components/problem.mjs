// A problem as people see it: what happened, what to do, and a way to try again.

import { online } from '../connection.mjs';
import { html, useEffect } from '../html.mjs';
import { t } from '../words.mjs';
import { Icon } from './icon.mjs';

const TITLES = { offline: 'offline_title', key: 'key_problem', busy: 'busy_title' };
const HELPS = { offline: 'offline_help', key: 'key_problem_help', busy: 'busy_help' };

/** `retry` starts the work anew; after a lost connection it is called as soon as the server is back. */
export function ProblemCard({ problem, retry }) {
  const reached = online.use();
  useEffect(() => { if (problem.kind === 'offline' && reached) retry(); }, [reached]);
  const title = TITLES[problem.kind] ? t(TITLES[problem.kind]) : t('failed_title');
  const help = HELPS[problem.kind] ? t(HELPS[problem.kind]) : '';
  // What was wrongly asked stays wrong.
  const again = problem.kind !== 'server' || problem.status >= 500;
  // The server's words are English.
  const says = problem.kind === 'server' ? [problem.title ?? problem.message, problem.detail].filter(Boolean) : [];
  return html`
    <div class="problem" role="alert">
      <${Icon} name="alert" />
      <div>
        <h2>${title}</h2>
        ${says.map((line) => html`<p lang="en">${line}</p>`)}
        ${problem.help && html`<p lang="en" class="todo"><${Icon} name="arrow" />${problem.help}</p>`}
        ${help && html`<p>${help}</p>`}
        <p class="row">
          ${retry && again && html`<button type="button" onClick=${retry}>${t('retry')}</button>`}
          ${problem.code && html`<code>${problem.code}</code>`}
        </p>
      </div>
    </div>`;
}

/** A fault of the page itself. */
export function Bug({ error }) {
  return html`
    <div class="problem" role="alert">
      <${Icon} name="alert" />
      <div>
        <h1>${t('bug_title')}</h1>
        <p>${t('bug_help')}</p>
        <pre lang="en">${String(error?.stack ?? error)}</pre>
      </div>
    </div>`;
}

/** Something that a person should know, and that is no fault. */
export function Notice({ icon = 'info', title, children, strong = false, quiet = false }) {
  return html`
    <div class=${`notice${strong ? ' strong' : ''}${quiet ? ' quiet' : ''}`}>
      <${Icon} name=${icon} />
      <div>${strong ? html`<h2>${title}</h2>` : html`<p><b>${title}</b></p>`}${children}</div>
    </div>`;
}
