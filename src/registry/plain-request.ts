/** In bytes. Those of registry clients have a few hundred. */
export const longestPlain = 8 * 1024;

/** RFC 9112 §3, §5, without what is only tolerated: no bare line feeds, no folded lines, printable ASCII alone. */
const grammar = /^(?:GET|HEAD) \/v2\/[!-~]* HTTP\/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+\r\n$/;
/** What gives a request a body, or another end than the empty line. */
const framing = /\r\n(?:content-length|transfer-encoding|expect|upgrade|trailer|te|http2-settings):/i;
const connection = /\r\nconnection:(?![\t ]*keep-alive[\t ]*\r\n)/i;

/**
 * Whether this is one request under `/v2/`, all of it and nothing behind it, that leaves its connection open for the
 * next one. Certain where it says so: whoever reads the connection by HTTP's rules finds its end in the same place.
 */
export function isPlain(text: string): boolean {
  return grammar.test(text) && !framing.test(text) && !connection.test(text);
}

/** Headers that answers depend on beyond what is asked for, or that are of one request alone. */
const particular =
  /\r\n(?:authorization|proxy-authorization|cookie|range|if-[^:]*|x-request-id|traceparent):/i;

/** Whether the same bytes may come again, and mean the same. Of a plain request. */
export function mayComeAgain(text: string): boolean {
  return !particular.test(text) && text.match(/\r\nhost:/gi)?.length === 1;
}
