import { realEnv } from '../runtime/env.ts';
import { MemoryStore, type StoredObjects } from './memory-store.ts';
import { describeStoreContract } from './store-contract.ts';

const places = new Map<string, StoredObjects>();

describeStoreContract('the memory store', {
  open: async (place) => {
    const objects: StoredObjects = places.get(place) ?? new Map();
    places.set(place, objects);
    return new MemoryStore(realEnv, objects);
  },
  racers: 8,
  rounds: 20,
});
