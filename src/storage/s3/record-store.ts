import { ownFolder } from '../layout.js';
import { longestRecord, StorageError, type Admit, type RecordStore } from '../storage.js';
import type { Bucket } from './bucket.js';

/** Cistern's own small objects, below `cistern/`. */
export class S3RecordStore implements RecordStore {
  constructor(private readonly bucket: Bucket) {}

  readRecord(key: string, limit = longestRecord, admit?: Admit): Promise<Buffer | undefined> {
    return this.bucket.read(keyOf(key), limit, admit);
  }

  writeRecord(key: string, bytes: Uint8Array): Promise<void> {
    return this.bucket.put(keyOf(key), bytes);
  }

  async createRecord(key: string, bytes: Uint8Array): Promise<Buffer> {
    await this.bucket.putIfAbsent(keyOf(key), bytes);
    const made = await this.readRecord(key);
    if (made === undefined) throw new StorageError('io', `record ${key} is gone right after it was made`);
    return made;
  }

  async adopt(fileAtRoot: string, key: string): Promise<boolean> {
    const bytes = await this.bucket.read(fileAtRoot, longestRecord);
    if (bytes === undefined) return false;
    await this.writeRecord(key, bytes);
    await this.bucket.remove(fileAtRoot);
    return true;
  }

  async listRecords(below: string): Promise<string[]> {
    const keys: string[] = [];
    for (let next: string | undefined; ;) {
      const page = await this.bucket.list(keyOf(below), false, next);
      keys.push(...page.keys.map((key) => key.slice(keyOf('').length)));
      next = page.next;
      if (next === undefined) return keys;
    }
  }

  removeRecord(key: string): Promise<void> {
    return this.bucket.remove(keyOf(key));
  }
}

function keyOf(key: string): string {
  return `${ownFolder}/${key}`;
}
