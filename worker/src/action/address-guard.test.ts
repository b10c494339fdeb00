import assert from 'node:assert/strict';
import type { LookupAddress } from 'node:dns';
import { test } from 'node:test';
import { guardedLookup, isRefusedAddress, type ResolveAll } from './address-guard.ts';

test('special addresses are refused in every spelling, public ones are not', () => {
  const refused =
    '0.0.0.0 10.1.2.3 100.64.0.1 100.127.255.255 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 ' +
    '172.31.255.255 192.0.0.1 192.168.1.1 198.18.0.1 224.0.0.1 239.1.1.1 240.0.0.1 ' +
    '255.255.255.255 168.63.129.16 :: ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ' +
    '0:0:0:0:0:ffff:a00:1 ::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 fc00::1 ' +
    'fd00:ec2::254 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 2001::1 2001:db8::1 ' +
    '2002:7f00:1:: localhost example.com 127.1';
  for (const address of refused.split(' ')) assert.ok(isRefusedAddress(address), address);
  const allowed =
    '1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.169.0.1 198.20.0.1 ' +
    '223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2606:4700::1111 2a00:1450::1 2001:4860::8888';
  for (const address of allowed.split(' ')) assert.ok(!isRefusedAddress(address), address);
});

function answering(...addresses: string[]): ResolveAll {
  return (_hostname, _options, callback) => {
    const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    callback(null, found);
  };
}

function look(resolve: ResolveAll, all: boolean): Promise<string | LookupAddress[]> {
  return new Promise((done, fail) => {
    guardedLookup(resolve)('host.test', { all }, (error, found) => {
      if (error) fail(error);
      else done(found);
    });
  });
}

test('a name leads only to its allowed addresses', async () => {
  const mixed = answering('10.0.0.1', '8.8.8.8', '::1', '2606:4700::1111');
  assert.deepEqual(await look(mixed, true), [
    { address: '8.8.8.8', family: 4 },
    { address: '2606:4700::1111', family: 6 },
  ]);
  assert.equal(await look(mixed, false), '8.8.8.8');
});

test('a name with none, or with no address at all, is refused by name', async () => {
  for (const resolve of [answering('10.0.0.1', '::1'), answering()]) {
    await assert.rejects(look(resolve, true), {
      code: 'ACTION_ADDRESS_REFUSED',
      message: /host\.test .*allowPrivateAddresses/,
    });
  }
});
