import { pino } from 'pino';
import { expect, it } from 'vitest';
import { Metrics } from '../telemetry/metrics.js';
import type { KubernetesApi, Query } from './kubernetes.js';
import { ObjectWatch } from './object-watch.js';

const pod = (name: string): unknown => ({ metadata: { namespace: 'apps', name, resourceVersion: '2' } });
const page = (items: unknown, more: object = {}): unknown => ({
  metadata: { resourceVersion: '1', ...more },
  items,
});

/** Answers each list with the next page, then repeats the last one. Answers each watch with the same events. */
class LyingApi implements KubernetesApi {
  readonly lists: Query[] = [];

  constructor(
    private readonly pages: readonly unknown[],
    private readonly events: readonly unknown[] = [],
  ) {}

  place(): Promise<never> {
    return Promise.reject(new Error('an unexpected call'));
  }

  get(_path: string, query: Query): Promise<unknown> {
    this.lists.push(query);
    return Promise.resolve(this.pages[Math.min(this.lists.length, this.pages.length) - 1]);
  }

  async *watch(_path: string, _query: Query, signal: AbortSignal): AsyncGenerator<unknown> {
    yield* this.events;
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
  }
}

/** Watches until an object has changed, or until the watch logs a warning. */
async function watch(api: KubernetesApi): Promise<{ known: string[]; warned: string[] }> {
  const stopping = new AbortController();
  const known = new Set<string>();
  const warned: string[] = [];
  const objects = new ObjectWatch<true>({
    api,
    path: '/api/v1/pods',
    fieldSelector: '',
    resource: 'pods',
    read: () => true,
    listed: (all) => {
      for (const name of all.keys()) known.add(name);
    },
    changed: (name) => {
      known.add(name);
      stopping.abort();
    },
    log: pino(
      { level: 'warn', serializers: { err: ({ code }: { code: string }) => code } },
      {
        write: (line: string) => {
          warned.push((JSON.parse(line) as { err: string }).err);
          stopping.abort();
        },
      },
    ),
    metrics: new Metrics(),
  });
  await objects.run(stopping.signal);
  return { known: [...known], warned };
}

it.each([
  ['an item that is null', page([null])],
  ['an item without metadata', page([{}])],
  ['an item whose metadata is null', page([{ metadata: null }])],
  ['an item whose name is a number', page([{ metadata: { namespace: 'apps', name: 7 } }])],
  ['an item that is a list', page([[]])],
  ['items that are not a list', page({})],
  ['a list without a version', { items: [] }],
  ['a token that is a number', page([], { continue: 7 })],
  ['null', null],
  ['a text', 'pods'],
])('reports a malformed list as invalid: %s', async (_, answer) => {
  expect(await watch(new LyingApi([answer]))).toEqual({ known: [], warned: ['invalid'] });
});

it('stops reading a list whose pages repeat their token', async () => {
  const api = new LyingApi([page([pod('one')], { continue: 'again' })]);
  expect(await watch(api)).toEqual({ known: [], warned: ['invalid'] });
  expect(api.lists).toHaveLength(2);
});

it.each([
  ['is null', null],
  ['has no object', { type: 'ADDED' }],
  ['has an object without metadata', { type: 'ADDED', object: {} }],
])('lists again after an event that %s', async (_, event) => {
  const api = new LyingApi([page([]), page([pod('one')]), null], [event]);
  expect(await watch(api)).toEqual({ known: ['apps/one'], warned: ['invalid'] });
});

it('follows the events of an honest server', async () => {
  const api = new LyingApi([page([pod('one')])], [{ type: 'ADDED', object: pod('two') }]);
  expect(await watch(api)).toEqual({ known: ['apps/one', 'apps/two'], warned: [] });
});

/** The objects that a watch sees until it sees `apps/late`. */
async function seenUntilLate(
  pages: readonly unknown[],
  watches: readonly (readonly unknown[])[],
): Promise<string[]> {
  const stopping = new AbortController();
  const known: string[] = [];
  let begun = 0;
  const api = new LyingApi(pages);
  api.watch = async function* (_path, _query, signal): AsyncGenerator<unknown> {
    const events = watches[Math.min(begun, watches.length - 1)] ?? [];
    begun += 1;
    yield* events;
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
  };
  const objects = new ObjectWatch<true>({
    api,
    path: '/api/v1/pods',
    fieldSelector: '',
    resource: 'pods',
    read: () => true,
    listed: (all) => known.push(...all.keys()),
    changed: (name) => {
      known.push(name);
      if (name === 'apps/late') stopping.abort();
    },
    log: pino({ level: 'silent' }),
    metrics: new Metrics(),
  });
  await objects.run(stopping.signal);
  return known;
}

const late = { type: 'ADDED', object: pod('late') };

it.each([
  ['an item without metadata', page([{}])],
  ['an item whose metadata is null', page([{ metadata: null }])],
  ['items that are no list', page({})],
  ['null instead of a list', null],
])('sees a change that comes after a list with %s', async (_, answer) => {
  expect(await seenUntilLate([answer, answer, page([pod('one')])], [[late]])).toEqual([
    'apps/one',
    'apps/late',
  ]);
});

it.each([
  ['an event that is null', null],
  ['an event without an object', { type: 'ADDED' }],
  ['an object without metadata', { type: 'MODIFIED', object: {} }],
  ['an error', { type: 'ERROR', object: { code: 500 } }],
  ['an error that names no code', { type: 'ERROR', object: {} }],
])('sees a change that comes after %s', async (_, event) => {
  expect((await seenUntilLate([page([])], [[event], [event], [late]])).at(-1)).toBe('apps/late');
});

it('lists again after the version has expired, and sees the next change', async () => {
  const expired = { type: 'ERROR', object: { code: 410 } };
  expect(await seenUntilLate([page([]), page([pod('one')])], [[expired], [late]])).toEqual([
    'apps/one',
    'apps/late',
  ]);
});
