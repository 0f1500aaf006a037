/**
 * Slots that clients share. A client may hold as many slots as are free. So one client alone gets half of them, two
 * clients get a third each, and some slots stay free for the next client (dynamic thresholds, as switches use them for
 * their buffers).
 */
export class Shares {
  #held = 0;
  readonly #byClient = new Map<string, number>();

  constructor(readonly slots: number) {}

  get areTaken(): boolean {
    return this.#held >= this.slots;
  }

  /** Whether every client has room, whatever it holds. Costs no look-up of the client. */
  get haveRoomForAll(): boolean {
    return this.#held * 2 < this.slots;
  }

  /** @param client `undefined`: a client of unknown address, which only the number of all slots limits */
  haveRoomFor(client: string | undefined): boolean {
    const free = this.slots - this.#held;
    return client === undefined ? free > 0 : free > (this.#byClient.get(client) ?? 0);
  }

  /** Takes a slot, even if there is no room. The returned function gives the slot back; further calls do nothing. */
  take(client: string | undefined): () => void {
    this.#held += 1;
    this.#count(client, 1);
    let returned = false;
    return () => {
      if (returned) return;
      returned = true;
      this.#held -= 1;
      this.#count(client, -1);
    };
  }

  #count(client: string | undefined, change: number): void {
    if (client === undefined) return;
    const held = (this.#byClient.get(client) ?? 0) + change;
    if (held === 0) this.#byClient.delete(client);
    else this.#byClient.set(client, held);
  }
}
