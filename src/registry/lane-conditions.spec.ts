import { describe, expect, it } from 'vitest';
import { whyNoLane, type LaneConditions } from './lane-conditions.js';

const http = {
  headers: { 'X-Content-Type-Options': ['nosniff'] },
  prefix: '/',
  tls: undefined,
  limits: { rate: undefined },
};
const open: LaneConditions = { http, asksWho: false, verifiesCallers: false, traces: false };
const tls = { certificate: 'c', key: 'k', minimumtls: undefined, clientcas: ['ca'] } as const;

describe('whyNoLane', () => {
  it('finds nothing where the request alone decides', () => {
    expect(whyNoLane(open)).toBeUndefined();
    expect(whyNoLane({ ...open, http: { ...http, tls: { ...tls, clientcas: [] } } })).toBeUndefined();
  });

  it.each([
    ['logins or rules of access', { asksWho: true }, 'who asks'],
    ['callers that upstreams are asked about', { verifiesCallers: true }, 'callers'],
    ['traces', { traces: true }, 'traced'],
    ['a rate', { http: { ...http, limits: { rate: 5 } } }, 'counted'],
    ['certificates of clients', { http: { ...http, tls } }, 'certificates'],
    ['a prefix', { http: { ...http, prefix: '/mirror/' } }, 'prefix'],
    ['headers that Node writes', { http: { ...http, headers: { DATE: ['x'] } } }, 'headers'],
  ] as const)('finds %s', (_, conditions, reason) => {
    expect(whyNoLane({ ...open, ...conditions } as LaneConditions)).toContain(reason);
  });
});
