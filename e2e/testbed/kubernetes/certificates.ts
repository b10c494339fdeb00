/**
 * A certificate authority for one test cluster, by openssl: a key pair per component and the
 * kubeconfig of whoever speaks to the API server. Files only, in one folder that is dropped with
 * the cluster.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const DAYS = '30';
const EC_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Paths of PEM files. */
export interface KeyPair {
  certificate: string;
  key: string;
}

export interface Authority extends KeyPair {
  /** Signs the tokens of ServiceAccounts: private and public key. */
  serviceAccount: { key: string; publicKey: string };
  /**
   * A pair that works as server and as client; `subject` as openssl writes it (`/O=group/CN=user`),
   * `names` as `IP:127.0.0.1` or `DNS:localhost`.
   */
  issue(file: string, subject: string, names?: string[]): Promise<KeyPair>;
  /** Issues a client pair and writes a kubeconfig with it; its path. */
  kubeconfig(file: string, subject: string, server: string): Promise<string>;
}

export async function createAuthority(folder: string): Promise<Authority> {
  await mkdir(folder, { recursive: true });
  const path = (name: string) => join(folder, name);
  const certificate = path('ca.crt');
  const key = path('ca.key');
  const usage = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'];
  const self = ['req', '-x509', ...EC_KEY, '-subj', '/CN=triggerjob-test-ca', '-days', DAYS];
  const serviceAccount = { key: path('sa.key'), publicKey: path('sa.pub') };
  await Promise.all([
    run('openssl', [...self, ...usage, '-keyout', key, '-out', certificate]),
    createServiceAccountKeys(serviceAccount),
  ]);

  const issue = async (file: string, subject: string, names: string[] = []): Promise<KeyPair> => {
    const pair = { certificate: path(`${file}.crt`), key: path(`${file}.key`) };
    const extensions = [
      'keyUsage=critical,digitalSignature',
      'extendedKeyUsage=serverAuth,clientAuth',
      ...(names.length === 0 ? [] : [`subjectAltName=${names.join(',')}`]),
    ];
    await writeFile(path(`${file}.ext`), `${extensions.join('\n')}\n`);
    const request = path(`${file}.csr`);
    await run('openssl', [
      'req',
      ...EC_KEY,
      '-subj',
      subject,
      '-keyout',
      pair.key,
      '-out',
      request,
    ]);
    const signer = ['-CA', certificate, '-CAkey', key, '-days', DAYS];
    // 8 random bytes, so that pairs may be issued at once without a shared serial file.
    const serial = `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')}`;
    const files = ['-in', request, '-extfile', path(`${file}.ext`), '-out', pair.certificate];
    await run('openssl', ['x509', '-req', ...signer, '-set_serial', serial, ...files]);
    return pair;
  };

  const kubeconfig = async (file: string, subject: string, server: string): Promise<string> => {
    const content = await kubeconfigOf(file, server, certificate, await issue(file, subject));
    await writeFile(path(`${file}.kubeconfig`), content, { mode: 0o600 });
    return path(`${file}.kubeconfig`);
  };
  return { certificate, key, serviceAccount, issue, kubeconfig };
}

/** As JSON, which is YAML. */
async function kubeconfigOf(
  user: string,
  server: string,
  authority: string,
  pair: KeyPair,
): Promise<string> {
  const encoded = async (from: string) => (await readFile(from)).toString('base64');
  const cluster = { server, 'certificate-authority-data': await encoded(authority) };
  const login = {
    'client-certificate-data': await encoded(pair.certificate),
    'client-key-data': await encoded(pair.key),
  };
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster }],
    users: [{ name: user, user: login }],
    contexts: [{ name: 'test', context: { cluster: 'test', user } }],
    'current-context': 'test',
  };
  return JSON.stringify(config, null, 2);
}

/** RSA: what the API server signs its tokens with. */
async function createServiceAccountKeys(files: { key: string; publicKey: string }): Promise<void> {
  await run('openssl', ['genrsa', '-out', files.key, '2048']);
  await run('openssl', ['rsa', '-in', files.key, '-pubout', '-out', files.publicKey]);
}
