import { networkInterfaces } from 'node:os';
import type { ClusterConfig } from '../../config/config.js';
import { parseListen } from '../../config/listen.js';

/**
 * Where other replicas find this one: `advertise`, else the host of `addr`, POD_IP, or the address from which this
 * host reaches Redis.
 */
export function advertised(
  { addr, advertise, podip }: Pick<ClusterConfig, 'addr' | 'advertise' | 'podip'>,
  towardsRedis: string | undefined,
): string | undefined {
  if (advertise !== undefined) return advertise;
  const { host: listened, port } = parseListen(addr) ?? { port: 5002 };
  const host = listened ?? podip ?? towardsRedis ?? external();
  if (host === undefined) return undefined;
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function external(): string | undefined {
  return Object.values(networkInterfaces())
    .flat()
    .find((each) => each !== undefined && !each.internal)?.address;
}
