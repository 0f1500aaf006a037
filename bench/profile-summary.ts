import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HeapProfiler, Profiler } from 'node:inspector';
import type { Facts } from './profiler.js';
import { quantity } from './table.js';

/** Requests answered, and the bytes of their bodies. */
export interface Work {
  readonly requests: number;
  readonly bytes: number;
}

/** Of one process. */
export interface Profiles {
  readonly facts: Facts;
  readonly cpu: Profiler.Profile;
  readonly heap: HeapProfiler.SamplingHeapProfile;
}

type CallFrame = Profiler.ProfileNode['callFrame'];

interface Spent {
  readonly frame: CallFrame;
  /** Microseconds, or bytes: in the function itself, without what it calls. */
  readonly self: number;
}

/** What profiler.ts has left in a folder. */
export async function readProfiles(folder: string): Promise<Profiles[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.facts'));
  return await Promise.all(
    names.map(async (name) => {
      const read = async (kind: string): Promise<unknown> =>
        JSON.parse(await readFile(join(folder, name.replace(/facts$/, kind)), 'utf8'));
      const [facts, cpu, heap] = await Promise.all([read('facts'), read('cpuprofile'), read('heapprofile')]);
      return { facts, cpu, heap } as Profiles;
    }),
  );
}

/** In Markdown: where processor time and allocations go, by module and by function. */
export function summaryOf(profiles: readonly Profiles[], work: readonly Work[]): string {
  const requests = work.reduce((sum, each) => sum + each.requests, 0);
  const megabytes = work.reduce((sum, each) => sum + each.bytes, 0) / 1_000_000;
  const cpu = profiles.flatMap(({ cpu }) => timesOf(cpu)).filter(({ frame }) => !isBeside(frame));
  const heap = profiles.flatMap(({ heap }) => allocationsOf(heap.head));
  const allocated = total(heap) / requests;
  return [
    factsOf(
      profiles.map(({ facts }) => facts),
      requests,
      megabytes,
    ),
    `### Processor time of the main thread\n\n${sharesOf(cpu, moduleOf, 'module', 12)}`,
    sharesOf(cpu, functionOf, 'function', 15),
    `### Allocation\n\n${quantity(allocated)} bytes of JavaScript's heap for each request; contents of buffers are not among them.`,
    sharesOf(heap, moduleOf, 'module', 8),
    sharesOf(heap, functionOf, 'function', 8),
  ].join('\n\n');
}

function factsOf(facts: readonly Facts[], requests: number, megabytes: number): string {
  const sum = (value: (each: Facts) => number): number =>
    facts.reduce((total, each) => total + value(each), 0);
  const worst = (value: (each: Facts) => number): string => `${quantity(Math.max(...facts.map(value)))} ms`;
  const [user, system, main] = [sum((it) => it.user), sum((it) => it.system), sum((it) => it.mainThread)];
  const each = (seconds: number): string => `${quantity((seconds / requests) * 1_000_000)} µs`;
  return [
    `- ${quantity(requests)} requests, ${quantity(megabytes)} MB, in ${quantity(sum((it) => it.elapsed))} s`,
    `- processor time: ${quantity(user + system)} s (user ${quantity(user)}, system ${quantity(system)}), of which the main thread ${quantity(main)} s`,
    `- of each request: ${each(user + system)}, of which the main thread ${each(main)}`,
    `- event loop late: median ${worst(({ delay }) => delay.p50)}, p99 ${worst(({ delay }) => delay.p99)}, at most ${worst(({ delay }) => delay.max)}`,
  ].join('\n');
}

function timesOf({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Spent[] {
  const self = new Map<number, number>();
  for (const [index, node] of samples.entries()) {
    self.set(node, (self.get(node) ?? 0) + (timeDeltas[index] ?? 0));
  }
  return nodes.map(({ id, callFrame }) => ({ frame: callFrame, self: self.get(id) ?? 0 }));
}

function allocationsOf(node: HeapProfiler.SamplingHeapProfileNode): Spent[] {
  return [{ frame: node.callFrame, self: node.selfSize }, ...node.children.flatMap(allocationsOf)];
}

/** Not the server's work. */
function isBeside({ functionName, url }: CallFrame): boolean {
  return functionName === '(idle)' || functionName === '(root)' || url === 'node:inspector';
}

/** `src/proxy`, a package, a module of Node's; what has no source is V8's and the native part of Node. */
export function moduleOf({ url, functionName }: CallFrame): string {
  const packaged = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
  if (packaged !== undefined) return packaged;
  const own = /\/dist\/(?:(.+?)\/)?[^/]+$/.exec(url);
  if (own !== null) return own[1] === undefined ? 'src' : `src/${own[1]}`;
  if (url.startsWith('node:'))
    return url.startsWith('node:internal/') ? url.replace(/^(node:internal\/[^/]+).*/, '$1') : url;
  if (url !== '') return url.replace(/.*\//, '');
  return functionName === '(garbage collector)' ? functionName : 'native code';
}

function functionOf(frame: CallFrame): string {
  const { functionName, url, lineNumber } = frame;
  const name = functionName === '' ? '(anonymous)' : functionName;
  return url === '' ? name : `${name} (${moduleOf(frame)}/${url.replace(/.*\//, '')}:${lineNumber + 1})`;
}

function sharesOf(
  spent: readonly Spent[],
  keyOf: (frame: CallFrame) => string,
  title: string,
  rows: number,
): string {
  const byKey = new Map<string, number>();
  for (const { frame, self } of spent) byKey.set(keyOf(frame), (byKey.get(keyOf(frame)) ?? 0) + self);
  const all = total(spent);
  const most = [...byKey].toSorted(([, a], [, b]) => b - a).slice(0, rows);
  return [
    `| ${title} | share |`,
    '|---|---:|',
    ...most.map(([key, self]) => `| ${key} | ${((self / all) * 100).toFixed(1)} % |`),
  ].join('\n');
}

function total(spent: readonly Spent[]): number {
  return spent.reduce((sum, { self }) => sum + self, 0);
}
