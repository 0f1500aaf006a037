import { randomBytes } from 'node:crypto';
import type { S3Config } from '../config/config.js';
import { Bucket } from '../storage/s3/bucket.js';
import { StorageError } from '../storage/storage.js';
import { silent, type Check } from './check.js';
import type { Clocks } from './clocks.js';

const content = Buffer.from('0123456789');

/** Does in the bucket what the mirror does, and removes it again. */
export function s3Check(config: S3Config, clocks: Clocks): Check {
  const place = `bucket ${config.bucket} at ${config.endpoint ?? `Amazon (${config.region})`}`;
  return {
    name: 'storage',
    run: async (tell) => {
      const bucket = new Bucket(config, silent);
      const key = `cistern/doctor/${randomBytes(8).toString('hex')}`;
      try {
        await bucket.put(key, content);
        clocks.note('the storage', await bucket.serverTime(), 2_000);
        const part = await bucket.open(key, { start: 3, end: 6 });
        const read = [];
        for await (const chunk of part?.body ?? []) read.push(Buffer.from(chunk));
        await part?.close();
        const faults: [string, string][] = [];
        if (!Buffer.concat(read).equals(content.subarray(3, 7))) {
          faults.push(['a range of an object is not what was asked for', 'use a server that knows Range']);
        }
        if (await bucket.putIfAbsent(key, content)) {
          faults.push([
            'an object that is there was created again (If-None-Match is not heeded)',
            'use a server with conditional writes: replicas that start together could not agree on who they are',
          ]);
        }
        await bucket.remove(key);
        if ((await bucket.head(key)) !== undefined) {
          faults.push(['an object that was deleted is still there', 'let the key delete (s3:DeleteObject)']);
        }
        for (const [fault, advice] of faults) tell.fail(`${place}: ${fault}`, advice);
        if (faults.length === 0) tell.ok(`${place} can be used`);
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        tell.fail(`${place}: ${error.message}`, error.code === 'denied' ? deniedAdvice : otherAdvice);
      } finally {
        await bucket.remove(key).catch(() => undefined); // where it failed, that has been said
        bucket.close();
      }
    },
  };
}

const deniedAdvice =
  'storage.s3.accesskey and secretkey (or their files) have to be right, and may put, get, list and delete there';
const otherAdvice =
  'storage.s3.bucket has to be there (NoSuchBucket: create it), and regionendpoint to lead to it over TLS or not (secure)';
