// What components are written with: Preact's elements as tagged templates, and its hooks.

import htm from '../vendor/htm.mjs';
import { h } from '../vendor/preact.mjs';

export const html = htm.bind(h);
export { render } from '../vendor/preact.mjs';
export { useEffect, useErrorBoundary, useId, useLayoutEffect, useRef, useState } from '../vendor/hooks.mjs';
