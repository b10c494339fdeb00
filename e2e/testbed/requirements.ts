/**
 * What the tests need from the machine beyond `npm ci`: Java and Maven for the real Kafka broker,
 * Go for the real S3 server and Kubernetes, Prometheus, as root iproute2 and nftables for networks
 * that can be cut, and for the lab what runs containers and builds images. Missing ones are
 * installed where that is possible without asking (a Debian container run as root, which is what CI
 * is); elsewhere the answer says what to install.
 */
import { spawnSync } from 'node:child_process';

interface Requirement {
  command: string;
  args: string[];
  debianPackage: string;
  purpose: string;
  /** Nobody else could use it. */
  rootOnly?: true;
}

const REQUIREMENTS: Requirement[] = [
  {
    command: 'java',
    args: ['-version'],
    debianPackage: 'default-jre-headless',
    purpose: 'runs the Kafka broker of the tests',
  },
  {
    command: 'mvn',
    args: ['-v'],
    debianPackage: 'maven',
    purpose: "fetches the broker's jars from Maven Central",
  },
  {
    command: 'go',
    args: ['version'],
    debianPackage: 'golang-go',
    purpose: 'builds the S3 server and the Kubernetes of the tests',
  },
  {
    command: 'openssl',
    args: ['version'],
    debianPackage: 'openssl',
    purpose: 'makes the certificates of the tests',
  },
  {
    command: 'promtool',
    args: ['--version'],
    debianPackage: 'prometheus',
    purpose: 'judges the alerts, and scrapes a job',
  },
  {
    command: 'ip',
    args: ['-V'],
    debianPackage: 'iproute2',
    purpose: 'makes the network that the partition test cuts',
    rootOnly: true,
  },
  {
    command: 'nft',
    args: ['--version'],
    debianPackage: 'nftables',
    purpose: 'cuts it',
    rootOnly: true,
  },
  {
    command: 'chromium',
    args: ['--version'],
    debianPackage: 'chromium',
    purpose: 'looks at the web UI',
  },
];

/** Asked for only where the Kubernetes lab can run: see labImpediment(). */
const LAB_REQUIREMENTS: Requirement[] = [
  ['containerd', '--version', 'containerd', 'runs the pods of the Kubernetes lab'],
  ['runc', '--version', 'runc', 'starts their containers'],
  ['/usr/lib/cni/ptp', '--version', 'containernetworking-plugins', 'gives pods their network'],
  ['nft', '--version', 'nftables', 'is what kube-proxy speaks'],
  ['iptables', '--version', 'iptables', 'forwards the ports of pods'],
  ['conntrack', '--version', 'conntrack', 'forgets the connections of Services that are gone'],
  ['ip', '-V', 'iproute2', 'makes the network of the lab'],
  ['unshare', '--version', 'util-linux', 'makes the namespaces of the lab'],
  ['socat', '-V', 'socat', 'leads into the lab'],
  ['buildah', '--version', 'buildah', 'builds the images'],
  ['debootstrap', '--version', 'debootstrap', 'makes the base image'],
].map(([command = '', arg = '', debianPackage = '', purpose = '']) => ({
  command,
  args: [arg],
  debianPackage,
  purpose,
}));

const INSTALL_TIMEOUT_MS = 600_000;

function isMissing(requirement: Requirement): boolean {
  if (requirement.rootOnly && process.getuid?.() !== 0) return false;
  return spawnSync(requirement.command, requirement.args, { stdio: 'ignore' }).status !== 0;
}

/** One line per thing that is still missing after the attempt to install it. */
export function provideRequirements(print: (line: string) => void, forLab: boolean): string[] {
  const needed = [...REQUIREMENTS, ...(forLab ? LAB_REQUIREMENTS : [])];
  const missing = needed.filter(isMissing);
  if (missing.length === 0) return [];
  if (process.getuid?.() === 0 && spawnSync('apt-get', ['--version']).status === 0) {
    const packages = missing.map((requirement) => requirement.debianPackage);
    print(`installing ${packages.join(', ')} (${missing.map((r) => r.purpose).join('; ')})`);
    const options = {
      stdio: ['ignore', 'ignore', 'inherit'] as ['ignore', 'ignore', 'inherit'],
      timeout: INSTALL_TIMEOUT_MS,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    };
    spawnSync('apt-get', ['update', '-q'], options);
    spawnSync('apt-get', ['install', '-qy', '--no-install-recommends', ...packages], options);
  }
  return needed
    .filter(isMissing)
    .map(
      (r) => `${r.command} is missing (${r.purpose}); Debian: apt-get install ${r.debianPackage}`,
    );
}
