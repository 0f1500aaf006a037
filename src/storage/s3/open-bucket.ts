import type { S3Config } from '../../config/config.js';
import type { Logger } from '../../telemetry/log.js';
import { LinkedRepositories } from '../linked-repositories.js';
import type { ObserveAction, Stores } from '../storage.js';
import { S3BlobStore } from './blob-store.js';
import { Bucket } from './bucket.js';
import { S3Deletes } from './deletes.js';
import { S3Inventory } from './inventory.js';
import { S3Links } from './links.js';
import { S3RecordStore } from './record-store.js';

/** All that is kept in a bucket. Asks it for nothing yet. `graceMs`: content that is younger is never deleted. */
export function openBucket(config: S3Config, graceMs: number, log: Logger, observe: ObserveAction): Stores {
  const bucket = new Bucket(config, log);
  const links = new S3Links(bucket, observe);
  const records = new S3RecordStore(bucket);
  return {
    blobs: new S3BlobStore({ bucket, chunkSize: config.chunksize, youngMs: graceMs / 2, log, observe }),
    repositories: new LinkedRepositories(links, records),
    records,
    inventory: new S3Inventory(bucket, links, observe),
    deletes: new S3Deletes(bucket, observe),
    probe: () => bucket.probe(),
    close: () => bucket.close(),
  };
}
