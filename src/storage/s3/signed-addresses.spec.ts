import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { digestOf } from '../../oci/digest.js';
import { PresignedUrls } from './presigned-urls.js';
import { lifetimeSeconds, SignedAddresses } from './signed-addresses.js';

const minuteMs = 60_000;

describe('addresses that are signed for clients', () => {
  let signed: number;
  let credentialsEnd: number | undefined;
  let addresses: SignedAddresses;
  beforeEach(() => {
    vi.useFakeTimers();
    signed = 0;
    credentialsEnd = undefined;
    addresses = new SignedAddresses((key) => {
      signed += 1;
      return Promise.resolve({ url: `http://s3.test/${key}?signature=${signed}`, until: credentialsEnd });
    });
  });
  afterEach(() => void vi.useRealTimers());

  it('are signed anew five minutes before they end', async () => {
    const first = await addresses.get('key');
    vi.advanceTimersByTime(14 * minuteMs);
    expect(await addresses.get('key')).toBe(first);
    vi.advanceTimersByTime(minuteMs);
    expect(await addresses.get('key')).not.toBe(first);
  });

  it('are signed anew in time even if the wall clock has stepped back', async () => {
    const digest = digestOf(Buffer.from('blob'));
    const urls = new PresignedUrls(addresses, () => Promise.resolve(4));
    const [address, first] = [await addresses.get('key'), await urls.get(digest)];
    vi.setSystemTime(Date.now() - 60 * minuteMs);
    expect(urls.recall(digest)).toBe(first);
    vi.advanceTimersByTime(lifetimeSeconds * 1000);
    expect(urls.recall(digest)).toBeUndefined();
    expect((await urls.get(digest))?.url).not.toBe(first?.url);
    expect(await addresses.get('key')).not.toBe(address);
  });

  it('end with the credentials that signed them', async () => {
    credentialsEnd = Date.now() + 7 * minuteMs;
    const first = await addresses.get('key');
    vi.advanceTimersByTime(minuteMs);
    expect(await addresses.get('key')).toBe(first);
    vi.advanceTimersByTime(minuteMs);
    expect(await addresses.get('key')).not.toBe(first);
  });
});
