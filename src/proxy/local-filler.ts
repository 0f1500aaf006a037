import type { Cluster } from '../cluster/cluster.js';
import type { Repository } from '../oci/name.js';
import type { BlobStore, EarlyUpload, RepositoryStore, VerifiedFile } from '../storage/storage.js';
import type { Filler, Filling } from './filler.js';
import { fillFromUpstream, type LeadOptions } from './lead.js';

/** Content goes into the store before anything points to it (rule 2). */
export class Shelf {
  constructor(
    readonly blobs: BlobStore,
    private readonly repositories: RepositoryStore,
    private readonly cluster: Pick<Cluster, 'descriptors'>,
    private readonly upload?: EarlyUpload,
  ) {}

  /** The same for one transfer, whose content is on its way into the store already. */
  withUpload(upload: EarlyUpload): Shelf {
    return new Shelf(this.blobs, this.repositories, this.cluster, upload);
  }

  async take(file: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    await (this.upload?.complete(file) ?? this.blobs.take(file));
    await this.link(file, repositories);
  }

  async link({ digest, size }: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    const descriptor = { digest, size, mediaType: 'application/octet-stream' };
    await Promise.all(
      repositories.map(async (repository) => {
        await this.repositories.linkLayer(repository, digest);
        this.cluster.descriptors.put(`${repository}@${digest}`, descriptor);
      }),
    );
  }

  /** Removes what the store was given of content that it did not take. */
  async clear(): Promise<void> {
    await this.upload?.abort();
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
