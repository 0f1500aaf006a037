import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';

const texts = new ConfigTexts();
const hour = 3_600_000;

describe('the scheduler', () => {
  it('runs as it is usual where nothing is said', () => {
    const { scheduler, proxy } = texts.load(minimal).config;
    expect(scheduler).toMatchObject({
      enabled: true,
      grace: 15 * 60_000,
      expire: { schedule: { kind: 'every', ms: 10 * 60_000 } },
      evict: { schedule: { kind: 'every', ms: 5 * 60_000 } },
      scrub: { schedule: { kind: 'every', ms: 168 * hour }, rate: 20e6 },
      prewarm: { images: [] },
    });
    expect(proxy).toMatchObject({ ttl: 168 * hour, maxsize: undefined, minfree: undefined });
  });

  it('takes durations, cron expressions and never', () => {
    const { scheduler } = texts.load(`${minimal}scheduler:
  expire: {schedule: never}
  evict: {schedule: 0}
  sweep: {schedule: '*/15 2-4 * * mon'}
  scrub: {schedule: '@monthly'}
  reindex: {schedule: 2160h}
`).config;
    expect(scheduler.expire.schedule).toEqual({ kind: 'never' });
    expect(scheduler.evict.schedule).toEqual({ kind: 'never' });
    expect(scheduler.sweep.schedule).toEqual({ kind: 'cron', pattern: '*/15 2-4 * * mon' });
    expect(scheduler.scrub.schedule).toEqual({ kind: 'cron', pattern: '@monthly' });
    expect(scheduler.reindex.schedule).toEqual({ kind: 'every', ms: 2160 * hour });
  });

  it.each(['daily', '61 * * * *', '0 0 30 2 *', '* * *', '-1h', '1d'])(
    'refuses the schedule "%s"',
    (given) => {
      expect(texts.faultyKeys(`${minimal}scheduler: {sweep: {schedule: '${given}'}}`)).toEqual([
        'scheduler.sweep.schedule',
      ]);
    },
  );

  it('knows the images to fetch ahead', () => {
    const images = `[{image: 'alpine:3', platforms: [linux/amd64, linux/arm/v7]}, {image: ghcr.io/o/i}]`;
    const { config } = texts.load(`${minimal}scheduler: {prewarm: {schedule: 0 5 * * *, images: ${images}}}`);
    expect(config.scheduler.prewarm).toEqual({
      schedule: { kind: 'cron', pattern: '0 5 * * *' },
      images: [
        { image: 'alpine:3', platforms: ['linux/amd64', 'linux/arm/v7'] },
        { image: 'ghcr.io/o/i', platforms: [] },
      ],
    });
    expect(
      texts.faultyKeys(
        `${minimal}scheduler: {prewarm: {images: [{image: 'no image'}, {platforms: [amd64]}]}}`,
      ),
    ).toEqual([
      'scheduler.prewarm.images[0].image',
      'scheduler.prewarm.images[1].image',
      'scheduler.prewarm.images[1].platforms[0]',
    ]);
  });

  it('wants limits that make sense', () => {
    const scheduler = 'scheduler: {grace: 10ms, scrub: {rate: 0}, expires: {}}';
    expect(texts.faultyKeys(`${minimal}proxy: {maxsize: 0, minfree: 0}\n${scheduler}`).sort()).toEqual([
      'proxy.maxsize',
      'proxy.minfree',
      'scheduler.expires',
      'scheduler.grace',
      'scheduler.scrub.rate',
    ]);
  });

  it('finds free space on a file system alone', () => {
    const bucket = 'version: 0.1\nstorage: {s3: {region: r, bucket: b}, delete: {enabled: true}}\n';
    expect(texts.faultyKeys(`${bucket}proxy: {minfree: 1GB}`)).toEqual(['proxy.minfree']);
    expect(texts.load(`${bucket}proxy: {maxsize: 1GB}`).config.proxy.maxsize).toBe(1e9);
  });

  it('keeps the content of each upstream for its own time, even for longer than a timer counts', () => {
    const { proxy } = texts.load(`${minimal}proxy:
  remoteurl: http://a.io
  ttl: 720h
  upstreams: [{host: b.io, url: http://b.io}, {host: c.io, url: http://c.io, ttl: 0}]
`).config;
    expect(proxy.ttl).toBe(720 * hour);
    expect(proxy.default?.ttl).toBe(720 * hour);
    expect(proxy.upstreams.map(({ ttl }) => ttl)).toEqual([720 * hour, 0]);
  });
});

describe('a number without a unit', () => {
  it.each([
    ['proxy: {remoteurl: http://a, ttl: 168}', 'proxy.ttl', '168 has no unit: write 168h?'],
    ['proxy: {remoteurl: http://a, ttl: 604800}', 'proxy.ttl', '604800 has no unit: write 604800s?'],
    [
      'proxy: {remoteurl: http://a, ttl: 604800000}',
      'proxy.ttl',
      '604800000 has no unit: write 604800000ms?',
    ],
    ['scheduler: {evict: {schedule: "300"}}', 'scheduler.evict.schedule', '300 has no unit: write 300s?'],
    ['scheduler: {sweep: {schedule: 24}}', 'scheduler.sweep.schedule', '24 has no unit: write 24h?'],
    ['scheduler: {grace: 15}', 'scheduler.grace', '15 has no unit: write 15m?'],
    ['http: {draintimeout: 60}', 'http.draintimeout', '60 has no unit: write 60s?'],
    ['cluster: {locktimeout: 250}', 'cluster.locktimeout', '250 has no unit: write 250ms?'],
  ])('is refused, and the error proposes the likely unit: %s', (yaml, key, question) => {
    const { faults } = texts.failure(`${minimal}${yaml}\n`);
    expect(faults.map((fault) => fault.key)).toEqual([key]);
    expect(faults[0]?.wanted).toContain(question);
  });

  it('counts nanoseconds as in registry, with a warning, if that is at least 1 ms', () => {
    const { config, warnings } = texts.load(
      `${minimal}redis: {addr: 'a:1', dialtimeout: 10000000}\nproxy: {remoteurl: http://a, ttl: 0}\n`,
    );
    expect(config.redis?.dialtimeout).toBe(10);
    expect(warnings).toEqual([
      {
        key: 'redis.dialtimeout',
        message: 'has no unit, so it counts nanoseconds: 0.01 s; write it with a unit',
      },
    ]);
  });
});
