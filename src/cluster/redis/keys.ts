/** Every key that is written to Redis. docs/redis.md lists them, with type, lifetime and size. */
export class Keys {
  readonly #prefix: string;

  /** `id`: of the storage, so that mirrors that share a Redis stay apart. */
  constructor(id: string) {
    this.#prefix = `cistern:{${id}}:`;
  }

  lease(key: string): string {
    return `${this.#prefix}lease:${key}`;
  }

  leader(key: string): string {
    return `${this.#prefix}leader:${key}`;
  }

  done(key: string): string {
    return `${this.#prefix}done:${key}`;
  }

  spools(key: string): string {
    return `${this.#prefix}spools:${key}`;
  }

  descriptor(key: string): string {
    return `${this.#prefix}descriptor:${key}`;
  }

  budget(key: string): string {
    return `${this.#prefix}budget:${key}`;
  }

  tag(key: string): string {
    return `${this.#prefix}tag:${key}`;
  }

  since(): string {
    return `${this.#prefix}since`;
  }
}
