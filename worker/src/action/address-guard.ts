/**
 * Which addresses a webhook may reach (SSRF guard). A job's author names a URL, the cluster's
 * network answers: without this check a webhook reads the cloud's metadata service or the
 * cluster's own APIs. The check is made on the address that is then connected to, never on a
 * second resolution: a name that changes its answer in between (DNS rebinding) gains nothing.
 */
import { type LookupAddress, lookup as systemLookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { TriggerJobError } from '../runtime/errors.ts';

/**
 * IANA's special-purpose ranges, and the one public address that is special: Azure's wire server.
 */
const REFUSED_V4 =
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 ' +
  '192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 ' +
  '203.0.113.0/24 224.0.0.0/4 240.0.0.0/4';
/**
 * `::/96` also holds `::`, `::1` and IPv4-compatible addresses; 2002::/16 (6to4) embeds any IPv4.
 */
const REFUSED_V6 =
  '::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7 ' +
  'fe80::/10 fec0::/10 ff00::/8';
/** IPv6 prefixes (96 bits) that carry an IPv4 address: mapped, and NAT64 of IPv6-only clusters. */
const EMBEDDING = ['::ffff:', '64:ff9b::'];

const refusedV4 = new BlockList();
const refusedV6 = new BlockList();
for (const [address, bits] of subnets(REFUSED_V4)) {
  refusedV4.addSubnet(address, bits, 'ipv4');
  for (const prefix of EMBEDDING) refusedV6.addSubnet(prefix + address, 96 + bits, 'ipv6');
}
for (const [address, bits] of subnets(REFUSED_V6)) refusedV6.addSubnet(address, bits, 'ipv6');

function subnets(list: string): [address: string, bits: number][] {
  return list.split(' ').map((subnet) => {
    const slash = subnet.indexOf('/');
    return [subnet.slice(0, slash), Number(subnet.slice(slash + 1))];
  });
}

/** Whether `address` is anything but a public unicast IP address. Text that is no IP is refused. */
export function isRefusedAddress(address: string): boolean {
  const bare = address.replace(/%.*$/, '');
  const family = isIP(bare);
  if (family === 4) return refusedV4.check(bare, 'ipv4');
  return family === 6 ? refusedV6.check(bare, 'ipv6') : true;
}

export const ADDRESS_REFUSED = 'ACTION_ADDRESS_REFUSED';

/** The refusal of `host`, with the setting that opens the guard. */
export function addressRefused(host: string, addresses: readonly string[]): TriggerJobError {
  const what = addresses.length === 1 && addresses[0] === host ? host : `${host} (${addresses})`;
  return new TriggerJobError(
    ADDRESS_REFUSED,
    `action.webhook.url: ${what} is a private or otherwise special address; ` +
      'set action.webhook.allowPrivateAddresses: true if that is meant',
  );
}

/** dns.lookup, narrowed to what is used of it. */
export type ResolveAll = (
  hostname: string,
  options: { all: true; family: number; hints: number },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** A `lookup` for net.connect that answers with allowed addresses only. */
export function guardedLookup(resolve: ResolveAll = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : options.family;
    const query = { all: true as const, family: family ?? 0, hints: options.hints ?? 0 };
    resolve(hostname, query, (error, addresses) => {
      if (error !== null) {
        callback(error, []);
        return;
      }
      const allowed = addresses.filter(({ address }) => !isRefusedAddress(address));
      const [first] = allowed;
      if (first === undefined) {
        const found = addresses.map(({ address }) => address);
        callback(addressRefused(hostname, found), []);
      } else if (options.all === true) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}

/**
 * Connects like undici does, but only to allowed addresses. HTTP/1.1: one request per connection.
 */
export function guardedConnector(
  timeoutMs: number,
  resolve?: ResolveAll,
): buildConnector.connector {
  const connect = buildConnector({
    timeout: timeoutMs,
    allowH2: false,
    lookup: guardedLookup(resolve),
  } as buildConnector.BuildOptions);
  return (options, callback) => {
    // net.connect asks no lookup for a literal.
    if (isIP(options.hostname) !== 0 && isRefusedAddress(options.hostname)) {
      callback(addressRefused(options.hostname, [options.hostname]), null);
      return;
    }
    connect(options, callback);
  };
}
