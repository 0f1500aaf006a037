import type { Repository } from '../oci/name.js';
import type { BlobStore, EarlyUpload, RepositoryStore, VerifiedFile } from '../storage/storage.js';
import { fillFromUpstream, type LeadOptions } from './lead.js';
import type { Filler, Filling } from './transfer.js';

/** Content goes into the store before anything points to it (rule 2). */
export class Shelf {
  constructor(
    readonly blobs: BlobStore,
    private readonly repositories: RepositoryStore,
    private readonly upload?: EarlyUpload,
  ) {}

  /** The same for one transfer, whose content is on its way into the store already. */
  withUpload(upload: EarlyUpload): Shelf {
    return new Shelf(this.blobs, this.repositories, upload);
  }

  async take(file: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    await (this.upload?.complete(file) ?? this.blobs.take(file));
    await this.link(file, repositories);
  }

  async link({ digest }: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    await Promise.all(repositories.map((repository) => this.repositories.linkLayer(repository, digest)));
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
