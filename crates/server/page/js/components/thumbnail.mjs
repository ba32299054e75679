// A small picture of the index in a square that is there before the picture is.

import { html, useRef } from '../html.mjs';
import { useThumbnail } from '../thumbnails.mjs';
import { t } from '../words.mjs';
import { Icon } from './icon.mjs';

export function Thumbnail({ id }) {
  const place = useRef(null);
  const url = useThumbnail(id, place);
  return html`
    <span class=${`thumbnail${url === null ? ' waiting' : ''}`} ref=${place}>
      ${url && html`<img src=${url} alt="" decoding="async" />`}
      ${url === undefined && html`<span class="gone"><${Icon} name="picture" /><span>${t('no_picture')}</span></span>`}
    </span>`;
}

/** All but the last part of a path. */
export const folderOf = (path) => path.slice(0, path.length - nameOf(path).length);

/** The last part of a path. */
export const nameOf = (path) => path.split(/[\\/]/).filter(Boolean).pop() ?? path;
