import { describe, expect, it } from 'vitest';
import { depthOf } from './reach.js';

/** The two halves of an IPv4 address, in hexadecimal. */
type Hex = readonly [string, string];

function turned(hex: string): string {
  return (Number.parseInt(hex, 16) ^ 0xffff).toString(16);
}

describe('how far inside an address is', () => {
  it.each([
    [0, ['1.1.1.1', '172.32.0.1', '2606:4700::1111', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8']],
    [1, ['10.0.0.1', '172.31.255.1', '192.168.1.1', '100.64.0.1', 'fd00::1', '::ffff:10.0.0.1']],
    [1, ['64:ff9b::10.1.2.3', '224.0.0.1', '255.255.255.255', 'ff02::1']],
    [2, ['127.0.0.1', '127.8.8.8', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1', '64:ff9b::7f00:1']],
    [3, ['169.254.169.254', 'fe80::1', 'fe80::1%eth0', 'fd00:ec2::254', '::ffff:169.254.169.254']],
    [3, ['100.100.100.200', '64:ff9b::a9fe:a9fe']],
  ] as const)('%i: %j', (depth, addresses) => {
    for (const address of addresses) expect({ address, depth: depthOf(address) }).toEqual({ address, depth });
  });

  it.each([
    ['6to4', (hex: Hex) => `2002:${hex[0]}:${hex[1]}::1`],
    ['IPv4-compatible', (hex: Hex) => `::${hex[0]}:${hex[1]}`],
    ['IPv4-mapped', (hex: Hex) => `::ffff:${hex[0]}:${hex[1]}`],
    ['IPv4-translated', (hex: Hex) => `::ffff:0:${hex[0]}:${hex[1]}`],
    ['NAT64', (hex: Hex) => `64:ff9b::${hex[0]}:${hex[1]}`],
    ['NAT64 for local use, 96 bits', (hex: Hex) => `64:ff9b:1:fffe::${hex[0]}:${hex[1]}`],
    [
      'NAT64 for local use, 48 bits',
      ([high, low]: Hex) => `64:ff9b:1:${high}:00${low.slice(0, 2)}:${low.slice(2)}00::`,
    ],
    [
      'NAT64 for local use, 64 bits',
      ([high, low]: Hex) =>
        `64:ff9b:1:0:00${high.slice(0, 2)}:${high.slice(2)}${low.slice(0, 2)}:${low.slice(2)}00:0`,
    ],
    ['the server of Teredo', (hex: Hex) => `2001:0:${hex[0]}:${hex[1]}:0:0:f7f7:f7f7`],
    ['the client of Teredo', (hex: Hex) => `2001:0:808:808:0:0:${turned(hex[0])}:${turned(hex[1])}`],
  ] as const)('is that of the IPv4 address inside: %s', (_, carrying) => {
    for (const [inner, depth] of [
      ['0808:0808', 0],
      ['0a01:0203', 1],
      ['ac1f:ff01', 1],
      ['7f08:0808', 2],
      ['a9fe:a9fe', 3],
      ['a9fe:aa02', 3],
      ['6464:64c8', 3],
    ] as const) {
      const [high = '', low = ''] = inner.split(':');
      const address = carrying([high, low]);
      expect({ address, depth: depthOf(address) }).toEqual({ address, depth });
    }
  });
});
