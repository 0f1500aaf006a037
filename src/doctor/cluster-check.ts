import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { advertised } from '../cluster/peers/advertised.js';
import { peerPath } from '../cluster/peers/peer-server.js';
import { Seal } from '../cluster/peers/seal.js';
import { examineRedis } from '../cluster/redis/examination.js';
import type { ClusterConfig, RedisConfig } from '../config/config.js';
import { parseListen } from '../config/listen.js';
import { codeOf, type Check } from './check.js';

const patienceMs = 2_000;
/** Of no content at all. */
const digest = `sha256:${'0'.repeat(64)}`;

export interface ClusterCheckOptions {
  readonly cluster: ClusterConfig;
  readonly redis: RedisConfig;
  /** The secret in the storage; `undefined`: no mirror has run there yet. Rejects where it cannot be read. */
  readonly stored: () => Promise<string | undefined>;
  /** Whether a mirror of this configuration runs here. */
  readonly running: () => Promise<boolean>;
}

/**
 * Whether the address that this replica gives to others leads to it. A replica takes each proof of the secret once
 * (`Seal`): the one that was shown at the advertised address is refused at the local port if both are the same process,
 * and if not, the answers tell whether it is another replica of this cluster or somebody else.
 */
export function clusterCheck(options: ClusterCheckOptions): Check {
  return {
    name: 'cluster',
    run: async (tell, signal) => {
      const { cluster, redis } = options;
      const url = advertised(cluster, await towardsRedis(redis, signal));
      if (url === undefined) {
        tell.fail(
          'no address is known by which other replicas could reach this one',
          'set cluster.advertise',
        );
        return;
      }
      if (!(await options.running())) {
        tell.ok(`would be found at ${url}; whether that leads here can be seen while the mirror runs`);
        return;
      }
      const secret = (await secretOf(cluster)) ?? (await options.stored());
      if (secret === undefined) {
        tell.warn('the storage has no secret of replicas yet', 'start the mirror with this storage');
        return;
      }
      const proof = proofOf(secret);
      const local = localUrl(cluster);
      const there = await show(url, proof, signal);
      const here = await show(local, proof, signal);
      const again = await show(url, proof, signal);
      if (there === 404 && here === 403) tell.ok(`is found at ${url}, and its secret is that of the storage`);
      else if (here !== 403 && here !== 404) {
        tell.fail(`no replica answers at ${local} (${here})`, 'see cluster.addr, and the log of the mirror');
      } else if (there === 404 && again === 403) {
        tell.fail(
          `${url} leads to another replica`,
          'cluster.advertise has to be an address of this one alone',
        );
      } else if (there === 403) {
        tell.fail(
          `the replica at ${url} has another secret than this one`,
          'cluster.secret has to be the same on all replicas; one without it takes the one in the storage',
        );
      } else if (typeof there === 'number') {
        tell.fail(
          `${url} leads to somebody who is no replica (${there})`,
          'set cluster.advertise to where this one is',
        );
      } else
        tell.fail(
          `${url} cannot be reached: ${there}`,
          'set cluster.advertise to an address that others reach',
        );
    },
  };
}

async function towardsRedis(redis: RedisConfig, signal: AbortSignal): Promise<string | undefined> {
  const [addr] = redis.mastername === undefined ? redis.addrs : [];
  if (addr === undefined) return undefined;
  try {
    return (await examineRedis(redis, addr, signal)).localAddress;
  } catch {
    signal.throwIfAborted();
    return undefined; // that Redis cannot be used is told by its own check
  }
}

async function secretOf({ secret, secretfile }: ClusterConfig): Promise<string | undefined> {
  if (secret !== undefined) return secret.reveal();
  return secretfile === undefined ? undefined : (await readFile(secretfile, 'utf8')).trim();
}

interface Proof {
  readonly path: string;
  readonly authorization: string;
}

/** That the secret is known, for a spool that nobody has: the answer is 404 where it is the right one. */
function proofOf(secret: string): Proof {
  const seal = new Seal(secret);
  const parts = { attempt: randomBytes(16).toString('hex'), digest, offset: 0, nonce: seal.newNonce() };
  return {
    path: peerPath(digest, parts.attempt, 0),
    authorization: `Cistern ${parts.nonce} ${seal.request(parts)}`,
  };
}

/** The status, or why there is none. */
async function show(
  url: string,
  { path, authorization }: Proof,
  signal: AbortSignal,
): Promise<number | string> {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]);
    const response = await fetch(url + path, {
      headers: { authorization },
      redirect: 'manual',
      signal: limit,
    });
    await response.body?.cancel();
    return response.status;
  } catch (error) {
    signal.throwIfAborted();
    return codeOf(error);
  }
}

function localUrl({ addr }: ClusterConfig): string {
  const { host, port } = parseListen(addr) ?? { port: 5002 };
  const everywhere = host === undefined || host === '0.0.0.0' || host === '::';
  const name = everywhere ? '127.0.0.1' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}
