// What the server says of itself, asked until it answers.

import { info } from './api.mjs';
import { task } from './task.mjs';

export const server = task();
export const learn = () => server.run('info', info);
