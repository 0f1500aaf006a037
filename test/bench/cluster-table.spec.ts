import { describe, expect, it } from 'vitest';
import type { CostRow } from '../../bench/cluster-cost.js';
import { costTable, growing } from '../../bench/cluster-table.js';

const imageBytes = 1_000_000;

/** What so many replicas took: the first alone `redisCommands`, each further one as many. */
function row(replicas: number, content: 'cold' | 'warm', changes: Partial<CostRow> = {}): CostRow {
  const isCold = content === 'cold';
  return {
    replicas,
    content,
    imageBytes,
    upstreamRequests: isCold ? 9 : 0,
    upstreamBytes: isCold ? imageBytes : 0,
    peerBytes: isCold ? imageBytes * (replicas - 1) : 0,
    redisCommands: isCold ? 50 * replicas : 0,
    s3Requests: 28 * replicas,
    ...changes,
  };
}

const constant = [1, 2, 4, 8].flatMap((replicas) => [row(replicas, 'cold'), row(replicas, 'warm')]);

function withLast(changes: Partial<CostRow>): CostRow[] {
  return [...constant.slice(0, -2), row(8, 'cold', changes), row(8, 'warm')];
}

describe('the costs of replicas', () => {
  it('are constant when each further one adds what the second did', () => {
    expect(growing(constant)).toEqual([]);
  });

  it.each([
    ['an upstream request more', { upstreamRequests: 10 }, 'upstream requests'],
    ['a byte more from the upstream', { upstreamBytes: imageBytes + 1 }, 'bytes from the upstream'],
    ['more between the replicas', { peerBytes: imageBytes * 9 }, 'bytes between replicas'],
    ['more commands for each', { redisCommands: 50 + 7 * 63 }, 'Redis commands'],
    ['more requests to the bucket for each', { s3Requests: 28 + 7 * 36 }, 'S3 requests'],
  ])('grow with %s', (_title, changes, what) => {
    expect(growing(withLast(changes))).toEqual([expect.stringContaining(what)]);
  });

  it('may differ a little: who waits for a busy disk looks more often', () => {
    expect(growing(withLast({ redisCommands: 50 + 7 * 62 }))).toEqual([]);
  });

  it('are told in total, and for each further replica', () => {
    const lines = costTable(constant, 4, true).split('\n');
    expect(lines).toHaveLength(2 + 8);
    expect(lines).toContain('| 1 | cold | 9 | 1.00 × | 0.00 × | 50 | 28 | 7.0 |');
    expect(lines).toContain('| 4 | cold | 9 | 1.00 × | 3.00 × (1.00 ×) | 200 (50) | 112 (28) | 7.0 |');
    expect(lines).toContain('| 8 | warm | 0 | 0.00 × | 0.00 × (0.00 ×) | 0 (0) | 224 (28) | 7.0 |');
  });

  it('are told without a bucket where there is none', () => {
    expect(costTable(constant, 4, false)).toContain(
      '| 2 | cold | 9 | 1.00 × | 1.00 × (1.00 ×) | 100 (50) | – | – |',
    );
  });
});
