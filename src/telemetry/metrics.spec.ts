import { describe, expect, it } from 'vitest';
import { Metrics } from './metrics.js';

async function samples(metrics: Metrics, name: string): Promise<string[]> {
  const text = await metrics.registry.metrics();
  return text.split('\n').filter((line) => line.startsWith(name));
}

describe('metrics', () => {
  it('begin at zero for an upstream that is configured, so that its first trouble is an increase', async () => {
    const metrics = new Metrics();
    metrics.expectUpstream('ghcr.io');
    expect(await samples(metrics, 'cistern_upstream_breaker_open{')).toEqual([
      'cistern_upstream_breaker_open{upstream="ghcr.io"} 0',
    ]);
    expect(await samples(metrics, 'cistern_digest_mismatches_total{')).toEqual([
      'cistern_digest_mismatches_total{upstream="ghcr.io",type="blob"} 0',
      'cistern_digest_mismatches_total{upstream="ghcr.io",type="manifest"} 0',
    ]);
    expect(await samples(metrics, 'cistern_answers_total{')).toHaveLength(8);
  });

  it('count answers by upstream, type and outcome, and add nothing when they are read again', async () => {
    const metrics = new Metrics();
    metrics.answers.count('docker.io', 'blob', 'hit', 10);
    metrics.answers.count('docker.io', 'blob', 'hit', 5);
    metrics.answers.count('docker.io', 'manifest', 'stale', 7);
    await metrics.registry.metrics();
    const told = [
      ...(await samples(metrics, 'cistern_answers_total{')),
      ...(await samples(metrics, 'cistern_answered_bytes_total{')),
    ];
    expect(told.filter((line) => !line.endsWith(' 0'))).toEqual([
      'cistern_answers_total{upstream="docker.io",type="manifest",outcome="stale"} 1',
      'cistern_answers_total{upstream="docker.io",type="blob",outcome="hit"} 2',
      'cistern_answered_bytes_total{upstream="docker.io",type="manifest"} 7',
      'cistern_answered_bytes_total{upstream="docker.io",type="blob"} 15',
    ]);
  });

  it('say what runs here', async () => {
    const [line] = await samples(new Metrics(), 'cistern_build_info{');
    expect(line).toMatch(/^cistern_build_info\{version="\d+\.\d+\.\d+",node="v\d+[\d.]+"\} 1$/);
  });
});
