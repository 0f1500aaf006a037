import { KubernetesError } from './kubernetes.js';

const newline = 0x0a;

/** Whole lines of a body, without their ends; one that is cut off is left out. Throws KubernetesError where one is too long. */
export async function* linesOf(body: AsyncIterable<Buffer>, longest: number): AsyncGenerator<Buffer> {
  let begun: Buffer[] = [];
  let length = 0;
  for await (const piece of body) {
    let from = 0;
    for (let end = piece.indexOf(newline); end !== -1; end = piece.indexOf(newline, from)) {
      const line = Buffer.concat([...begun, piece.subarray(from, end)]);
      begun = [];
      length = 0;
      from = end + 1;
      if (line.length > 0) yield line;
    }
    begun.push(piece.subarray(from));
    length += piece.length - from;
    if (length > longest) throw new KubernetesError('invalid', `an event of more than ${longest} bytes`);
  }
}
