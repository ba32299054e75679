// Work whose newest start counts: an older answer never overwrites a newer one.

import { store } from './store.mjs';

const IDLE = { busy: false, key: null, value: null, problem: null };

/**
 * A task. `run(key, work)` does nothing where `key` is answered well or under way, so that a view that is
 * shown again does not ask again. While it is busy the old value stays, so that nothing jumps.
 */
export function task() {
  const state = store(IDLE);
  let last = null;

  async function start(key, work) {
    last?.abort.abort();
    const mine = { abort: new AbortController(), key, work };
    last = mine;
    state.set({ ...state.get(), busy: true, key, problem: null });
    try {
      const value = await work(mine.abort.signal);
      if (last === mine) state.set({ busy: false, key, value, problem: null });
    } catch (problem) {
      if (last === mine) state.set({ busy: false, key, value: null, problem });
    }
  }

  return {
    get: state.get,
    use: state.use,
    run(key, work) {
      const { key: known, problem } = state.get();
      return known === key && !problem ? undefined : start(key, work);
    },
    again: () => last && start(last.key, last.work),
    clear() {
      last?.abort.abort();
      last = null;
      state.set(IDLE);
    },
  };
}
