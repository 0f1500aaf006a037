/**
 * Frees a received chunk that is used no more, where all of its memory is this chunk's. Left to the garbage collector
 * the chunks of one fast blob make it go through the whole heap a hundred times a second.
 */
export function giveUp({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
