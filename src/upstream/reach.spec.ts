import { describe, expect, it } from 'vitest';
import { depthOf } from './reach.js';

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
});
