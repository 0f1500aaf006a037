import { describe, expect, it } from 'vitest';
import { jobLine, removedLine, summaryText } from './render.js';

describe('a removal', () => {
  const digest = `sha256:${'a'.repeat(64)}`;
  it.each([
    ['blob', undefined, digest, 1_200_000, 'unreferenced', `remove blob ${digest} (1.2 MB, unreferenced)`],
    ['manifest', 'library/a', digest, 0, 'expired', `remove manifest library/a@${digest} (expired)`],
    ['tag', 'ghcr.io/o/i', 'v1', 0, 'expired', 'remove tag ghcr.io/o/i:v1 (expired)'],
  ] as const)('of a %s', (what, repository, reference, bytes, why, line) => {
    const removed = { type: 'removed', what, repository, reference, bytes, why } as const;
    expect(removedLine(removed, false)).toBe(line);
    expect(removedLine(removed, true)).toBe(`would ${line}`);
  });
});

describe('a job', () => {
  const job = { name: 'expire', schedule: '10m', next: undefined } as const;
  const run = {
    outcome: 'done',
    runner: 'host:1',
    began: '2026-11-21T10:00:00.000Z',
    error: undefined,
    problems: undefined,
    progress: undefined,
  } as const;

  it('shows what its last run did', () => {
    const line = jobLine({
      ...job,
      run: { ...run, ended: '2026-11-21T10:01:05.000Z', summary: { blobs: 2, bytes: 0 } },
    });
    expect(line).toMatch(/^expire +done .* 1m5s .* 10m +blobs 2$/);
  });

  it('shows the number of problems in its last run', () => {
    const problems = { count: 3, first: [] };
    const done = { ...run, ended: run.began, summary: { blobs: 2 }, problems };
    expect(jobLine({ ...job, run: done })).toMatch(/ blobs 2, problems 3$/);
  });

  it('shows what it is doing', () => {
    const progress = { doing: 'listing blobs', done: 1, total: undefined };
    const running = { ...run, outcome: 'running', ended: undefined, summary: undefined, progress } as const;
    expect(jobLine({ ...job, run: running })).toMatch(/^expire +running .* listing blobs$/);
  });

  it('may never have run', () => {
    expect(jobLine({ ...job, run: undefined })).toMatch(/^expire +never run +10m$/);
  });
});

it('a summary leaves out what is zero', () => {
  expect(summaryText({ blobs: 3, bytes: 1_000_000, storedBytes: 10, rotten: 0 })).toBe(
    'blobs 3, bytes 1.0 MB, storedBytes 10 B',
  );
  expect(summaryText({})).toBe('nothing');
});
