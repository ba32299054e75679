// Starts the page.

import { App } from './components/app.mjs';
import { html, render } from './html.mjs';
import { follow } from './route.mjs';

follow();
render(html`<${App} />`, document.getElementById('app'));
