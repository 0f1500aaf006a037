import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dashboards as described } from '../../scripts/dashboards/contents.js';
import { dashboardFiles } from '../../scripts/dashboards/write.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { PullLimit } from '../fakes/pull-limit.js';
import { commandOf, lacks } from '../parts/debian.js';
import { contentsOf, imageOf, randomLayer } from '../parts/image.js';
import { blobOf, untilIdle } from '../parts/mirror.js';
import { runProcess, until } from '../parts/process.js';
import { type Prometheus, startPrometheus } from '../parts/prometheus.js';
import { type Replica, type Replicas, startReplicas } from '../parts/replicas.js';
import { TokenServer } from '../parts/token-server.js';
import { type DashboardJson, queriesOf, type Query } from './queries.js';
import { patience } from '../parts/patience.js';

const job = 'cistern';
const rulesFile = new URL('../../deploy/prometheus/rules.yml', import.meta.url);
const image = imageOf({ layers: [randomLayer(300_000, 'one'), randomLayer(200_000, 'two')] });
const damaged = blobOf(50_000, 'damaged on its way');

/** As Grafana does, for all mirrors and replicas. */
function substituted({ expr }: Query): string {
  return expr.replaceAll('$job', job).replaceAll('$instance', '.+').replaceAll('$__rate_interval', '2m');
}

/** The whole answer, whatever it is. */
async function get(replica: Replica, path: string): Promise<number> {
  const answer = await fetch(replica.v2(path), { headers: { accept: image.manifest.mediaType } });
  await answer.bytes().catch(() => undefined); // some are cut
  return answer.status;
}

/** All of the image, as clients ask for it. */
async function pull(replica: Replica, name: string, tag: string): Promise<number[]> {
  const blobs = contentsOf(image).blobs.map(({ digest }) => `blobs/${digest}`);
  const statuses: number[] = [];
  for (const path of [`manifests/${tag}`, `manifests/${image.manifest.digest}`, ...blobs]) {
    statuses.push(await get(replica, `${name}/${path}`));
  }
  return statuses;
}

function atLeast(prometheus: Prometheus, scrapes: number): Promise<void> {
  return until(async () => {
    const counts = await prometheus.query(`count_over_time(cistern_build_info{job="${job}"}[5m])`);
    return counts.length === 2 && counts.every(({ value }) => value >= scrapes);
  }, patience());
}

async function scrapesSoFar(prometheus: Prometheus): Promise<number> {
  const counts = await prometheus.query(`max(count_over_time(cistern_build_info{job="${job}"}[5m]))`);
  return counts[0]?.value ?? 0;
}

describe.skipIf(lacks('prometheus', 'redis-server'))('what Prometheus scrapes of two replicas', () => {
  let cluster: Replicas;
  let prometheus: Prometheus;
  const stack = new AsyncDisposableStack();
  /** What clients were answered one after the other. */
  const statuses: number[] = [];

  beforeAll(async () => {
    const tokens = stack.use(await TokenServer.start({ anonymous: ['team/app'] }));
    const other = stack.use(await FakeUpstream.start({ tokens }));
    const proxy = {
      host: 'docker.io',
      freshness: '1s',
      maxsize: '10GB',
      upstreams: [{ host: 'ghcr.io', url: other.url }],
    };
    const hasty = {
      reindex: { schedule: '1s' },
      evict: { schedule: '1s' },
      expire: { schedule: '1s' },
      sweep: { schedule: '1s' },
    };
    cluster = stack.use(
      await startReplicas({
        count: 2,
        upstream: { pullLimit: new PullLimit(100, 21_600) },
        proxy,
        config: () => ({ storage: { delete: { enabled: true } }, scheduler: hasty }),
      }),
    );
    const { upstream, replica, replicas } = cluster;
    upstream.addImage('library/app', 'v1', image);
    upstream.addBlob('library/app', damaged);
    upstream.fault({ path: `/v2/library/app/blobs/${damaged.digest}` }, { corruptAt: 10 });
    other.addImage('team/app', 'v1', image);
    const targets = replicas.map(({ debugUrl }) => new URL(debugUrl).host);
    prometheus = stack.use(await startPrometheus({ job, targets, rules: rulesFile }));
    await atLeast(prometheus, 1); // zeros, so that what follows is an increase

    // Cold on both at once, then warm; another upstream, with tokens; what is not there; and what is damaged.
    await Promise.all(replicas.map((each) => pull(each, 'library/app', 'v1')));
    statuses.push(
      ...(await pull(replica(1), 'ghcr.io/team/app', 'v1')),
      await get(replica(0), 'library/app/manifests/none'),
    );
    await get(replica(0), `library/app/blobs/${damaged.digest}`);
    await Promise.all(replicas.map(untilIdle));
    await atLeast(prometheus, (await scrapesSoFar(prometheus)) + 1); // an increase needs something to increase from
    statuses.push(...(await pull(replica(0), 'library/app', 'v1')));
    // The upstream is away: what is here is served stale, what is not is refused.
    await other.down();
    const stale = 'ghcr.io/team/app/manifests/v1';
    const isStale = async (): Promise<boolean> => {
      const answer = await fetch(replica(1).v2(stale));
      await answer.bytes();
      return answer.headers.has('warning');
    };
    await until(isStale, patience());
    statuses.push(await get(replica(1), 'ghcr.io/team/app/manifests/v2'));
    const jobs = 'count(count by (name) (cistern_job_last_run_timestamp_seconds))';
    await until(async () => ((await prometheus.query(jobs))[0]?.value ?? 0) >= 4, patience());
    await atLeast(prometheus, (await scrapesSoFar(prometheus)) + 3);
  });
  afterAll(() => stack.disposeAsync());

  it.each(
    dashboardFiles(described).map(({ name, json }) => ({
      name,
      dashboard: JSON.parse(json) as DashboardJson,
    })),
  )('gives every panel of $name its data', async ({ dashboard }) => {
    const empty: string[] = [];
    for (const query of queriesOf(dashboard)) {
      const samples = await prometheus.query(substituted(query));
      if (!samples.some(({ value }) => !Number.isNaN(value))) empty.push(`${query.panel}: ${query.expr}`);
    }
    expect(empty).toEqual([]);
  });

  it('shows what happened', async () => {
    const whole = [200, 200, 200, 200, 200];
    expect(statuses).toEqual([...whole, 404, ...whole, 503]);
    const value = async (expression: string): Promise<number | undefined> =>
      (await prometheus.query(expression))[0]?.value;
    expect(await value('sum(cistern_transfer_roles_total{role="lead"})')).toBeGreaterThan(0);
    expect(await value('sum(cistern_stale_served_total{upstream="ghcr.io"})')).toBeGreaterThan(0);
    expect(await value('sum(increase(cistern_digest_mismatches_total[2m]))')).toBeGreaterThan(0);
    expect(await value('sum(cistern_answers_total{outcome="miss",upstream="ghcr.io"})')).toBeGreaterThan(0);
    expect(await value('sum(cistern_upstream_tokens_total{result="granted"})')).toBeGreaterThan(0);
    expect(await value('max(cistern_upstream_ratelimit_limit{upstream="docker.io"})')).toBe(100);
    expect(await value('min(cistern_redis_usable)')).toBe(1);
    expect(await value('max(cistern_stored_limit_bytes)')).toBe(10e9);
    // Both replicas come to tell of the same storage, whichever of them looks through it.
    const stored = async (): Promise<boolean[]> =>
      (await prometheus.query('cistern_stored_blobs')).map((sample) => sample.value > 0);
    await expect.poll(stored).toEqual([true, true]);
  });

  it('lets every alert be computed, and raises the one for corrupt content', async () => {
    interface Groups {
      readonly groups: readonly {
        readonly rules: readonly { name: string; health: string; lastError?: string }[];
      }[];
    }
    const { groups } = await prometheus.api<Groups>('rules?type=alert');
    const rules = groups.flatMap(({ rules }) => rules);
    expect(rules.length).toBeGreaterThan(10);
    expect(rules.filter(({ health }) => health !== 'ok')).toEqual([]);
    const firing = await prometheus.query('ALERTS{alertstate="firing"}');
    expect(firing.map(({ labels }) => labels['alertname'])).toEqual(['CisternCorruptContent']);
  });
});

describe.skipIf(lacks('redis-server'))('the status page', () => {
  it('shows a replica on its debug port, to programs and to browsers, and not on the public one', async () => {
    await using cluster = await startReplicas({
      count: 1,
      upstream: { bytesPerSecond: 100_000 },
      proxy: { host: 'docker.io' },
    });
    const replica = cluster.replica(0);
    const blob = blobOf(400_000, 'on its way');
    cluster.upstream.addBlob('library/app', blob);
    const pulled = get(replica, `library/app/blobs/${blob.digest}`);
    await cluster.upstream.until(() => cluster.upstream.bytesSent() > 0);
    const status = await fetch(`${replica.debugUrl}/debug/status`);
    expect(await status.json()).toMatchObject({
      ready: true,
      failing: {},
      upstreams: [{ host: 'docker.io', breaker: 'closed' }],
      transfers: [{ digest: blob.digest }],
      cluster: { address: replica.clusterUrl, redis: { data: 'usable', locks: 'usable' } },
      storage: { driver: 'filesystem' },
      jobs: expect.arrayContaining([expect.objectContaining({ name: 'evict' })]) as unknown,
    });
    const page = await fetch(`${replica.debugUrl}/debug/status`, { headers: { accept: 'text/html,*/*' } });
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(await page.text()).toContain(blob.digest);
    expect((await fetch(`${replica.url}/debug/status`)).status).toBe(404);
    expect(await pulled).toBe(200);
  });
});

describe.skipIf(lacks('promtool'))('promtool', () => {
  it.each([
    ['takes the rules', ['check', 'rules', 'rules.yml']],
    ['finds each alert raised and not raised as its cases say', ['test', 'rules', 'rules.test.yml']],
    ['takes the example of a configuration', ['check', 'config', 'prometheus.yml']],
  ])('%s', async (_, args) => {
    const cwd = fileURLToPath(new URL('.', rulesFile));
    const { code, stdout, stderr } = await runProcess(commandOf('promtool'), args, { cwd });
    expect({ code, said: stdout + stderr }).toEqual({
      code: 0,
      said: expect.stringContaining('SUCCESS') as string,
    });
  });
});
