/**
 * Slots that clients share. A client may hold as many slots as are free. So one client alone gets half of them, two
 * clients get a third each, and some slots stay free for the next client (dynamic thresholds, as switches use them for
 * their buffers). A slot may be a connection, a request or a byte.
 */
export class Shares {
  #held = 0;
  readonly #byClient = new Map<string, number>();

  constructor(readonly slots: number) {}

  /** The slots that all clients hold. */
  get held(): number {
    return this.#held;
  }

  get areTaken(): boolean {
    return this.#held >= this.slots;
  }

  /** Whether every client has room, whatever it holds. Costs no look-up of the client. */
  get haveRoomForAll(): boolean {
    return this.#held * 2 < this.slots;
  }

  /** @param client `undefined`: a client of unknown address, which only the number of all slots limits */
  haveRoomFor(client: string | undefined, slots = 1): boolean {
    const own = client === undefined ? 0 : (this.#byClient.get(client) ?? 0);
    return own + slots <= this.slots - this.#held;
  }

  /** Takes slots, even if there is no room. The returned function gives them back; further calls do nothing. */
  take(client: string | undefined, slots = 1): () => void {
    this.#count(client, slots);
    let returned = false;
    return () => {
      if (returned) return;
      returned = true;
      this.#count(client, -slots);
    };
  }

  /** Gives back a part of what the client took. The function of {@link take} must not be called then. */
  give(client: string | undefined, slots: number): void {
    this.#count(client, -slots);
  }

  #count(client: string | undefined, change: number): void {
    this.#held += change;
    if (client === undefined) return;
    const held = (this.#byClient.get(client) ?? 0) + change;
    if (held === 0) this.#byClient.delete(client);
    else this.#byClient.set(client, held);
  }
}
