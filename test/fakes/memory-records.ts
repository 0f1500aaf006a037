import { StorageError, type RecordStore } from '../../src/storage/storage.js';

/** Records in memory; in trouble, while it is told to be. */
export class MemoryRecords implements RecordStore {
  readonly records = new Map<string, Buffer>();
  /** Nothing can be written. */
  full = false;

  /** Nothing gives these. */
  readonly unreadable = new Set<string>();

  text(key: string): string | undefined {
    return this.records.get(key)?.toString();
  }

  readRecord(key: string): Promise<Buffer | undefined> {
    if (this.unreadable.has(key)) return Promise.reject(new StorageError('denied', `reading ${key} failed`));
    return Promise.resolve(this.records.get(key));
  }

  writeRecord(key: string, bytes: Uint8Array): Promise<void> {
    if (this.full) return Promise.reject(new StorageError('full', 'no room'));
    this.records.set(key, Buffer.from(bytes));
    return Promise.resolve();
  }

  async createRecord(key: string, bytes: Uint8Array): Promise<Buffer> {
    const there = this.records.get(key);
    if (there !== undefined) return there;
    await this.writeRecord(key, bytes);
    return Buffer.from(bytes);
  }

  adopt(): Promise<boolean> {
    return Promise.resolve(false);
  }

  listRecords(below: string): Promise<string[]> {
    return Promise.resolve([...this.records.keys()].filter((key) => key.startsWith(below)).sort());
  }

  removeRecord(key: string): Promise<void> {
    this.records.delete(key);
    return Promise.resolve();
  }
}
