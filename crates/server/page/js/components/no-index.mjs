// Said where the server has no index.

import { html } from '../html.mjs';
import { t } from '../words.mjs';
import { Notice } from './problem.mjs';

export const NoIndex = () => html`<${Notice} icon="none" title=${t('no_index')}><p>${t('no_index_more')}</p></${Notice}>`;
