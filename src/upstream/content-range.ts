/** A `Content-Range` of a 206 answer (RFC 9110 §14.4); both ends inclusive. */
export interface ContentRange {
  readonly start: number;
  readonly end: number;
  readonly total: number | undefined;
}

const form = /^bytes (\d{1,15})-(\d{1,15})\/(?:(\d{1,15})|\*)$/i;

/** `undefined` where it is missing or cannot be true. */
export function readContentRange(header: string | undefined): ContentRange | undefined {
  const match = form.exec(header?.trim() ?? '');
  if (match === null) return undefined;
  const start = Number(match[1]);
  const end = Number(match[2]);
  const total = match[3] === undefined ? undefined : Number(match[3]);
  return end < start || (total !== undefined && end >= total) ? undefined : { start, end, total };
}
