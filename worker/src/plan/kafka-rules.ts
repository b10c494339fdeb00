/** Rules and resolution of Kafka connections: the source's, and the dead letter's. */

import type { CompleteSpec } from './derived.ts';
import { type Loose, startingOffsets } from './derived.ts';
import type { Faults } from './fault.ts';
import type { KafkaConnectionPlan, KafkaSourcePlan } from './job-plan.ts';
import type { RuleInput } from './rules.ts';
import { splitServers } from './scalar-rules.ts';
import { filePath, type Site } from './site.ts';

type KafkaSource = NonNullable<CompleteSpec['source']['kafka']>;
type Security = Pick<KafkaSource, 'tls' | 'sasl' | 'securityRef'>;

export function connectionRules(input: RuleInput, faults: Faults): void {
  const { spec, site } = input;
  const source = spec.source?.kafka;
  const letters = spec.deadLetter?.kafka;
  if (source) {
    securityRules(source, 'spec.source.kafka', site, faults);
    timestampRules(source, faults);
  }
  if (letters) {
    securityRules(letters, 'spec.deadLetter.kafka', site, faults);
    deadLetterRules(input, faults);
  }
}

function timestampRules(source: Loose<KafkaSource>, faults: Faults): void {
  const path = 'spec.source.kafka.startingTimestamp';
  const wanted = source.startingOffsets === 'timestamp';
  const given = source.startingTimestamp !== undefined;
  if (source.startingOffsets === undefined || faults.isBroken(path)) return;
  if (wanted && !given) {
    faults.add(path, 'is missing: startingOffsets timestamp needs it, e.g. 2026-01-31T08:00:00Z');
  } else if (given && !wanted) {
    faults.add(path, `has no effect with startingOffsets ${source.startingOffsets}: remove it`);
  }
}

function securityRules(security: Loose<Security>, path: string, site: Site, faults: Faults): void {
  const { tls, sasl, securityRef } = security;
  if (securityRef && !tls && !sasl && !faults.isBroken(`${path}.tls`)) {
    const problem =
      'names a Secret of which nothing is used: add sasl: {mechanism: ...} or tls: {ca: ca.crt}';
    if (!faults.isBroken(`${path}.sasl`)) faults.add(`${path}.securityRef`, problem);
  }
  if (tls && (tls.cert === undefined) !== (tls.key === undefined)) {
    const [given, other] = tls.cert === undefined ? ['key', 'cert'] : ['cert', 'key'];
    const missing = `${path}.tls.${other}`;
    if (!faults.isBroken(missing)) faults.add(missing, `is missing: tls.${given} needs it`);
  }
  if (sasl && !securityRef && !faults.isBroken(`${path}.securityRef`)) {
    for (const name of ['usernameFile', 'passwordFile'] as const) {
      const missing = `${path}.sasl.${name}`;
      if (sasl[name] !== undefined || faults.isBroken(missing)) continue;
      faults.add(missing, 'is missing: name a file with it, or give securityRef');
    }
  }
  const files: [string, string | undefined][] = [
    ['tls.ca', tls?.ca],
    ['tls.cert', tls?.cert],
    ['tls.key', tls?.key],
    ['sasl.usernameFile', sasl?.usernameFile],
    ['sasl.passwordFile', sasl?.passwordFile],
  ];
  for (const [name, file] of files) {
    if (file === undefined || filePath(file, securityRef?.name, site) !== null) continue;
    faults.add(`${path}.${name}`, `is ${file}: write an absolute path, or give securityRef`);
  }
}

/** A dead letter in the topic it came from would be read, fail and be written again, for ever. */
function deadLetterRules({ spec }: RuleInput, faults: Faults): void {
  const source = spec.source?.kafka;
  const letters = spec.deadLetter?.kafka;
  const serversPath = 'spec.deadLetter.kafka.bootstrapServers';
  const sourceUnknown = faults.isBroken('spec.source') || faults.isBroken('spec.source.kafka');
  if (!source && !sourceUnknown && letters?.bootstrapServers === undefined) {
    if (faults.isBroken(serversPath)) return;
    faults.add(serversPath, 'is missing: the source is not Kafka, so name the brokers');
  }
  const own = letters?.bootstrapServers;
  const same = own === undefined || own === source?.bootstrapServers;
  if (source?.topic === undefined || letters?.topic !== source.topic || !same) return;
  const problem = `is ${letters.topic}, the topic of the source: name another one`;
  faults.add('spec.deadLetter.kafka.topic', problem);
}

/** Of a spec without faults. */
export function kafkaSource(source: KafkaSource, groupId: string, site: Site) {
  return {
    kind: 'kafka',
    connection: kafkaConnection(source.bootstrapServers, source, site),
    topic: source.topic,
    groupId: source.groupId ?? groupId,
    startingOffsets: startingOffsets(source.startingOffsets, source.startingTimestamp ?? 0),
  } satisfies Partial<KafkaSourcePlan>;
}

/** Of a spec without faults. */
export function kafkaConnection(
  servers: string,
  { tls, sasl, securityRef }: Security,
  site: Site,
): KafkaConnectionPlan {
  const connection: KafkaConnectionPlan = { bootstrapServers: splitServers(servers) };
  const file = (path: string): string => filePath(path, securityRef?.name, site) ?? path;
  if (tls) {
    connection.tls = {
      ...(tls.ca === undefined ? {} : { ca: file(tls.ca) }),
      ...(tls.cert === undefined ? {} : { cert: file(tls.cert) }),
      ...(tls.key === undefined ? {} : { key: file(tls.key) }),
      ...(tls.serverName === undefined ? {} : { serverName: tls.serverName }),
    };
  }
  if (sasl) {
    connection.sasl = {
      mechanism: sasl.mechanism,
      username: { path: file(sasl.usernameFile ?? 'username') },
      password: { path: file(sasl.passwordFile ?? securityRef?.key ?? 'password') },
    };
  }
  return connection;
}
