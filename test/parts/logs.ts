import type { Readable } from 'node:stream';
import { unhandledMessage } from '../../src/cli/last-resort.js';

interface FollowedLog {
  readonly title: string;
  readonly text: () => string;
  ended: boolean;
}

let followed: FollowedLog[] = [];
/** Lines about unhandled errors in logs that {@link forgetEndedLogs} dropped. */
const forgotten: string[] = [];

/** Gathers what streams say; returns what they said so far. */
export function followLog(title: string, streams: readonly Readable[]): () => string {
  const chunks: string[] = [];
  const entry: FollowedLog = { title, text: () => chunks.join(''), ended: false };
  followed.push(entry);
  let open = streams.length;
  for (const stream of streams) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => chunks.push(chunk));
    stream.once('close', () => {
      open -= 1;
      entry.ended = open === 0;
    });
  }
  return entry.text;
}

/** The end of every log since {@link forgetEndedLogs}, also of processes that are gone by now. */
export function logTails(): string {
  return followed.map(({ title, text }) => `--- ${title}\n${text().slice(-3000)}`).join('\n');
}

/** Lines that mirrors logged about errors that their code did not handle, since the test file began. */
export function unhandledErrors(): string[] {
  return [...forgotten, ...followed.flatMap(unhandledIn)];
}

function unhandledIn({ title, text }: FollowedLog): string[] {
  const lines = text().split('\n');
  return lines.filter((line) => line.includes(unhandledMessage)).map((line) => `${title}: ${line}`);
}

export function forgetEndedLogs(): void {
  forgotten.push(...followed.filter(({ ended }) => ended).flatMap(unhandledIn));
  followed = followed.filter(({ ended }) => !ended);
}
