import { clientKey, type ClientAddresses, type Connected } from './client-address.js';

const mostBytes = 64 * 1024 * 1024;
/** A smaller answer is not counted: all of them together are bounded by the number of connections. */
const smallest = 16 * 1024;

type Client = string | undefined;

/**
 * Bounds the memory of answers that clients have not read yet. Memory that several clients get counts once. An address
 * may hold as many bytes as are free, as with `Shares`: one that reads nothing leaves room for the others.
 */
export class HeldAnswers {
  #held = 0;
  readonly #byClient = new Map<Client, number>();
  /** By memory: how many answers of it each client waits for. */
  readonly #answers = new Map<ArrayBufferLike, Map<Client, number>>();

  constructor(private readonly addresses: ClientAddresses) {}

  /** Counts an answer until the returned function is called, once. `undefined`: there is no room. */
  take(request: Connected, answer: Buffer): (() => void) | undefined {
    if (answer.byteLength < smallest) return nothing;
    const { buffer } = answer;
    const client = clientKey(this.addresses.of(request));
    const clients = this.#answers.get(buffer) ?? new Map<Client, number>();
    const before = clients.get(client) ?? 0;
    if (before === 0) {
      const own = client === undefined ? 0 : (this.#byClient.get(client) ?? 0);
      if (own + buffer.byteLength > mostBytes - this.#held) return undefined;
      add(this.#byClient, client, buffer.byteLength);
    }
    if (clients.size === 0) {
      this.#held += buffer.byteLength;
      this.#answers.set(buffer, clients);
    }
    clients.set(client, before + 1);
    return () => this.#release(client, clients, buffer);
  }

  #release(client: Client, clients: Map<Client, number>, buffer: ArrayBufferLike): void {
    if (add(clients, client, -1) > 0) return;
    add(this.#byClient, client, -buffer.byteLength);
    if (clients.size > 0) return;
    this.#held -= buffer.byteLength;
    this.#answers.delete(buffer);
  }
}

function add(counts: Map<Client, number>, client: Client, change: number): number {
  const count = (counts.get(client) ?? 0) + change;
  if (count === 0) counts.delete(client);
  else counts.set(client, count);
  return count;
}

const nothing = (): void => undefined;
