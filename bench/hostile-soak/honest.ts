import { setTimeout as delay } from 'node:timers/promises';
import type { Content } from '../../test/parts/image.js';
import { sha256 } from '../../test/parts/mirror.js';
import { between, pick, type Random } from '../random.js';
import type { Published } from './contents.js';
import { ask, NoAnswer, type Reply } from './http-client.js';

export interface HonestTally {
  pulls: number;
  requests: number;
  bytes: number;
  /** Requests for content that the client may have but did not get. */
  failures: number;
  wrong: number;
}

export interface HonestTask {
  readonly urls: readonly string[];
  readonly authorization: string;
  readonly random: Random;
  readonly tally: HonestTally;
  readonly note: (text: string) => void;
  /** The images that clients ask for at this time. Their number grows, so that some content is always new. */
  readonly published: () => readonly Published[];
}

const accept = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');
const pauseMs = [100, 500] as const;
const noted = 100;

/** One client that pulls image after image and verifies every byte, until the signal aborts. */
export async function pullHonestly(task: HonestTask, from: string, signal: AbortSignal): Promise<void> {
  const { random, tally } = task;
  const agreed = new Client(task, from);
  while (!signal.aborted) {
    await agreed.pull(pick(random, task.published()), pick(random, task.urls));
    tally.pulls += 1;
    await delay(between(random, ...pauseMs), undefined, { signal }).catch(() => undefined);
  }
}

class Client {
  constructor(
    private readonly task: HonestTask,
    private readonly from: string,
  ) {}

  async pull({ repository, tag, image }: Published, url: string): Promise<void> {
    const base = `${url}/v2/${repository}`;
    const { random } = this.task;
    if (random() < 0.3) await this.#head(`${base}/manifests/${tag}`, image.manifest);
    const reference = random() < 0.7 ? tag : image.manifest.digest;
    if (!(await this.#whole(`${base}/manifests/${reference}`, image.manifest))) return;
    await Promise.all(
      [image.config, ...image.layers].map((blob) => {
        const path = `${base}/blobs/${blob.digest}`;
        return random() < 0.2 ? this.#part(path, blob) : this.#whole(path, blob);
      }),
    );
  }

  async #head(url: string, content: Content): Promise<void> {
    const reply = await this.#get(url, { method: 'HEAD', headers: { accept } });
    if (reply === undefined) return;
    const digest = reply.headers['docker-content-digest'];
    if (reply.status !== 200) this.#fail(`HEAD ${url}: ${reply.status}`);
    else if (digest !== content.digest) this.#wrong(`HEAD ${url}: ${String(digest)} for ${content.digest}`);
  }

  async #whole(url: string, content: Content): Promise<boolean> {
    const reply = await this.#get(url, { headers: { accept } });
    if (reply === undefined) return false;
    if (reply.status !== 200)
      return this.#fail(`GET ${url}: ${reply.status} ${reply.body.toString().slice(0, 300)}`);
    if (`sha256:${sha256(reply.body)}` !== content.digest) {
      return this.#wrong(`GET ${url}: ${reply.body.byteLength} bytes that do not match the digest`);
    }
    this.task.tally.bytes += reply.body.byteLength;
    return true;
  }

  async #part(url: string, content: Content): Promise<boolean> {
    const { random } = this.task;
    const start = between(random, 0, content.size);
    const end = between(random, start, content.size);
    const reply = await this.#get(url, { headers: { range: `bytes=${start}-${end}` } });
    if (reply === undefined) return false;
    if (reply.status !== 206) return this.#fail(`GET ${url} bytes ${start}-${end}: ${reply.status}`);
    if (!reply.body.equals(content.bytes.subarray(start, end + 1))) {
      return this.#wrong(`GET ${url} bytes ${start}-${end}: ${reply.body.byteLength} other bytes`);
    }
    this.task.tally.bytes += reply.body.byteLength;
    return true;
  }

  /** Returns `undefined` if the request fails. The failure is counted. */
  async #get(
    url: string,
    options: { readonly method?: string; readonly headers: Readonly<Record<string, string>> },
  ): Promise<Reply | undefined> {
    const { tally, authorization } = this.task;
    const { from } = this;
    tally.requests += 1;
    const began = performance.now();
    try {
      const reply = await ask(url, { ...options, headers: { ...options.headers, authorization }, from });
      const { location } = reply.headers;
      // The storage must not get the client's password for the mirror.
      return reply.status === 307 && location !== undefined
        ? await ask(location, { ...options, from })
        : reply;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      this.#fail(`${error.message}, after ${((performance.now() - began) / 1000).toFixed(1)} s`);
      return undefined;
    }
  }

  #fail(text: string): false {
    this.task.tally.failures += 1;
    if (this.task.tally.failures <= noted) this.task.note(`HONEST FAILURE: ${text}`);
    return false;
  }

  #wrong(text: string): false {
    this.task.tally.wrong += 1;
    this.task.note(`WRONG BYTES: ${text}`);
    return false;
  }
}
