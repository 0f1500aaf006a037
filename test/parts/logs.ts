import type { Readable } from 'node:stream';

interface FollowedLog {
  readonly title: string;
  readonly text: () => string;
  ended: boolean;
}

let followed: FollowedLog[] = [];

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

export function forgetEndedLogs(): void {
  followed = followed.filter(({ ended }) => !ended);
}
