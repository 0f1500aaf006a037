import type { Cluster } from '../cluster/cluster.js';
import type { Repository } from '../oci/name.js';
import type { BlobStore, EarlyUpload, RepositoryStore, VerifiedFile } from '../storage/storage.js';
import type { UsageRecorder } from '../usage/usage.js';
import type { ExpectedSizes } from './expected-sizes.js';
import type { Filler, Filling } from './filler.js';
import { fillFromUpstream, type LeadOptions } from './lead.js';

export interface ShelfOptions {
  readonly blobs: BlobStore;
  readonly repositories: RepositoryStore;
  readonly cluster: Pick<Cluster, 'descriptors'>;
  readonly sizes: Pick<ExpectedSizes, 'verified'>;
  readonly usage: Pick<UsageRecorder, 'stored'>;
  readonly upload?: EarlyUpload;
}

/** Content goes into the store before anything points to it (rule 2). */
export class Shelf {
  constructor(private readonly options: ShelfOptions) {}

  get blobs(): BlobStore {
    return this.options.blobs;
  }

  /** The same for one transfer, whose content is on its way into the store already. */
  withUpload(upload: EarlyUpload): Shelf {
    return new Shelf({ ...this.options, upload });
  }

  async take(file: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    const { blobs, upload, usage } = this.options;
    await (upload?.complete(file) ?? blobs.take(file));
    usage.stored(file.size);
    await this.#link(file, repositories);
  }

  /** Links content that the store has already, or stores it again if it is absent by now. */
  async adopt(file: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    if ((await this.options.blobs.renew(file.digest)) !== file.size) await this.take(file, repositories);
    else await this.#link(file, repositories);
  }

  async #link({ digest, size }: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    const { cluster, repositories: store, sizes } = this.options;
    const descriptor = { digest, size, mediaType: 'application/octet-stream' };
    await Promise.all(
      repositories.map(async (repository) => {
        await store.linkLayer(repository, digest);
        const key = `${repository}@${digest}`;
        sizes.verified(key, size);
        cluster.descriptors.put(key, descriptor);
      }),
    );
  }

  /** Removes what the store was given of content that it did not take. */
  async clear(): Promise<void> {
    await this.options.upload?.abort();
  }
}

/** Fills for this process alone. */
export class LocalFiller implements Filler {
  constructor(
    private readonly shelf: Shelf,
    private readonly options: LeadOptions,
  ) {}

  fill(filling: Filling): Promise<void> {
    return fillFromUpstream(filling, this.options);
  }

  store(file: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    return this.shelf.take(file, repositories);
  }

  close(): Promise<void> {
    return this.shelf.clear();
  }
}
