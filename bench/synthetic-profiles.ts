/**
 * In place of worker/src/state/http-profile-api.ts in a measured slot: makes a missing user in the
 * process, as the Flink job does, so that filling the state takes seconds and no third process.
 * TRIGGERJOB_BENCH_HEAVY is the setting's `heavy` as JSON: users with more in their history.
 */
import type { ProfileApi } from '../worker/src/state/profile-api.ts';
import { historyEvents, profileJson, visitJson } from './dataset.ts';
import type { Setting } from './settings.ts';

export function openHttpProfileApi(): ProfileApi {
  const heavy = JSON.parse(process.env['TRIGGERJOB_BENCH_HEAVY'] ?? 'null') as Setting['heavy'];
  let requests = 0;
  return {
    fetch: async (userId) => {
      requests += 1;
      const user = Number(userId.slice(1));
      const isHeavy = heavy !== null && user % heavy.every === 0;
      const padding = isHeavy ? heavy.paddingBytes : 0;
      const history = historyEvents(user, padding, heavy?.varied);
      return { kind: 'found', profile: profileJson(user), visit: visitJson(user), history };
    },
    stats: () => ({ requests }),
    close: async () => undefined,
  };
}
