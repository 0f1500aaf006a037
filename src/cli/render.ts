import type { AdminEvent, ListedImage, ListedJob } from '../admin/admin.js';
import type { JobSummary } from '../scheduler/job.js';
import { humanBytes } from './display.js';

type Removed = Extract<AdminEvent, { readonly type: 'removed' }>;

/** `remove blob sha256:… (1.2 MB, unreferenced)`; what a dry run says begins with `would`. */
export function removedLine({ what, repository, reference, bytes, why }: Removed, dryRun: boolean): string {
  const size = bytes === 0 ? '' : `${humanBytes(bytes)}, `;
  const name = repository === undefined ? reference : imageName(repository, reference);
  return `${dryRun ? 'would ' : ''}remove ${what} ${name} (${size}${why})`;
}

function imageName(repository: string, reference: string): string {
  return `${repository}${reference.includes(':') ? '@' : ':'}${reference}`;
}

export function listedName({ repository, tag, digest }: ListedImage): string {
  return tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`;
}

export const imageHeader = imageColumns('SIZE', 'LAST USED', 'DIGEST', 'IMAGE');

/** The name comes last: it may be long. */
export function imageLine(image: ListedImage): string {
  const { bytes, lastUsed, digest } = image;
  const shortDigest = digest.slice(0, 'sha256:'.length + 12);
  return imageColumns(humanBytes(bytes), minutes(lastUsed), shortDigest, listedName(image));
}

function imageColumns(size: string, used: string, digest: string, name: string): string {
  return `${size.padStart(9)}  ${used.padEnd(16)}  ${digest.padEnd(19)}  ${name}`;
}

export const jobHeader = jobColumns('JOB', 'STATE', 'LAST RUN', 'TOOK', 'NEXT', 'SCHEDULE', 'DID');

export function jobLine({ name, schedule, next, run }: ListedJob): string {
  const ended = run?.ended;
  const took = run && ended !== undefined ? humanTime(Date.parse(ended) - Date.parse(run.began)) : '';
  const problems = run?.problems === undefined ? '' : `, problems ${run.problems.count}`;
  const did = run?.error ?? (run?.summary && summaryText(run.summary)) ?? run?.progress?.doing ?? '';
  const times = [run ? minutes(run.began) : '', took, next === undefined ? '' : minutes(next)];
  return jobColumns(name, run?.outcome ?? 'never run', ...times, schedule, did + problems);
}

function jobColumns(...columns: readonly string[]): string {
  const widths = [8, 9, 16, 8, 16, 12, 0];
  return columns
    .map((text, index) => text.padEnd(widths[index] ?? 0))
    .join('  ')
    .trimEnd();
}

/** `blobs 3, bytes 1.2 MB`: what is not zero. */
export function summaryText(summary: JobSummary): string {
  const parts = Object.entries(summary).filter(([, count]) => count !== 0);
  if (parts.length === 0) return 'nothing';
  return parts
    .map(([name, count]) => `${name} ${/bytes/i.test(name) ? humanBytes(count) : count}`)
    .join(', ');
}

/** Of the local clock, as operators think: 2026-11-21 14:05. */
function minutes(iso: string): string {
  const date = new Date(iso);
  const two = (number: number): string => String(number).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

function humanTime(ms: number): string {
  if (ms < 1000) return `${ms}ms`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutesTaken = Math.floor(seconds / 60);
  return minutesTaken < 60
    ? `${minutesTaken}m${seconds % 60}s`
    : `${Math.floor(minutesTaken / 60)}h${minutesTaken % 60}m`;
}
