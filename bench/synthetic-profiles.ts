/**
 * In place of worker/src/state/http-profile-api.ts in a measured slot: makes a missing user in the
 * process, as the Flink job does, so that filling the state takes seconds and no third process.
 * TRIGGERJOB_BENCH_HEAVY is `EVERY,PADDING`: each so-many-th user has so many bytes more in each
 * event of its history.
 */
import type { ProfileApi } from '../worker/src/state/profile-api.ts';
import { historyEvents, profileJson, visitJson } from './dataset.ts';

export function openHttpProfileApi(): ProfileApi {
  const [every = 0, padding = 0] = (process.env['TRIGGERJOB_BENCH_HEAVY'] ?? '0,0')
    .split(',')
    .map(Number);
  let requests = 0;
  return {
    fetch: async (userId) => {
      requests += 1;
      const user = Number(userId.slice(1));
      const history = historyEvents(user, every > 0 && user % every === 0 ? padding : 0);
      return { kind: 'found', profile: profileJson(user), visit: visitJson(user), history };
    },
    stats: () => ({ requests }),
    close: async () => undefined,
  };
}
