// Small line drawings. They say nothing that a word beside them does not say.

import { html } from '../html.mjs';

const PATHS = {
  search: ['M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z', 'M15.5 15.5 20 20'],
  picture: ['M5 4.5h14a1.5 1.5 0 0 1 1.5 1.5v12a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 18V6A1.5 1.5 0 0 1 5 4.5z', 'M8.5 10.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z', 'M4 17l5-4.5 3.5 3 3.5-3.5 4.5 4.5'],
  tag: ['M4 4.5h7.5l8.5 8.5-7 7L4 11.5z', 'M8 8.5h.01'],
  copies: ['M9 8.5h10.5V19H9z', 'M5.5 15.5H4.5V5H15v1'],
  stack: ['M12 4l8 4-8 4-8-4z', 'M4 12l8 4 8-4', 'M4 16l8 4 8-4'],
  close: ['M6 6l12 12', 'M18 6L6 18'],
  left: ['M14.5 5.5L8 12l6.5 6.5'],
  right: ['M9.5 5.5L16 12l-6.5 6.5'],
  key: ['M8 16a4 4 0 1 1 3.700-5.5H20v3h-2.5V16h-3v-2.5h-2.800A4 4 0 0 1 8 16z'],
  columns: ['M4.5 5h6v14h-6z', 'M13.5 5h6v14h-6z'],
  refresh: ['M19.5 12a7.5 7.5 0 1 1-2.200-5.300L19.5 9', 'M19.5 4v5h-5'],
  similar: ['M12 4l1.800 5.200L19 11l-5.200 1.800L12 18l-1.800-5.200L5 11l5.200-1.800z', 'M18.5 16v4', 'M16.5 18h4'],
  download: ['M12 4v11', 'M7.5 11l4.5 4.5 4.5-4.5', 'M5 19.5h14'],
  copy: ['M9 8.5h10.5V20H9z', 'M6 15.5H4.5V4H15v1.5'],
  alert: ['M12 4l9 15.5H3z', 'M12 10v4.5', 'M12 17h.01'],
  info: ['M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16z', 'M12 11v5', 'M12 8h.01'],
  none: ['M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z', 'M15.5 15.5L20 20', 'M8 10.5h5'],
  link: ['M9 12h6', 'M10 7.5H8a4.5 4.5 0 0 0 0 9h2', 'M14 7.5h2a4.5 4.5 0 0 1 0 9h-2'],
  arrow: ['M5 12h14', 'M13 6l6 6-6 6'],
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    ${PATHS[name].map((d) => html`<path d=${d} />`)}
  </svg>`;
}
