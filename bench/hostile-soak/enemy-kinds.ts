import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { dial, get } from '../../test/hostile/raw.js';
import { sha256 } from '../../test/parts/mirror.js';
import { between, pick, type Random, randomOf } from '../random.js';
import { ask, type AskOptions, NoAnswer, type Reply } from './http-client.js';

export interface EnemyTask {
  readonly seed: number;
  readonly urls: readonly string[];
  readonly clusterUrls: readonly string[];
  /** The `Authorization` header of a user who may not pull private content. */
  readonly tenant: string;
  /** Paths of blobs that the mirror has stored or can store. */
  readonly blobs: readonly string[];
  readonly largeBlob: string;
  readonly manifests: readonly string[];
  /** Paths of content that the storage does not let the mirror read, with the digest of the content. */
  readonly unreadable: readonly { readonly path: string; readonly digest: string }[];
  /** Private blobs, with their paths. */
  readonly private: readonly { readonly path: string; readonly digest: string; readonly size: number }[];
  /** Paths of nested manifests, the innermost first. */
  readonly nested: readonly string[];
  /** Repositories of the hostile upstream. */
  readonly lies: readonly string[];
  readonly liarHost: string;
}

export interface KindTally {
  requests: number;
  /** The number of answers for each class of status, such as `2xx`. */
  answers: Record<string, number>;
  left: number;
  cut: number;
}

export interface EnemyResult {
  readonly kinds: Readonly<Record<string, KindTally>>;
  /** Requests that got neither an answer nor the end of their connection in time. */
  readonly unanswered: readonly string[];
  /** Answers that gave a client access which it must not have. */
  readonly opened: readonly string[];
  /** Answers whose bytes do not match the requested digest. */
  readonly wrong: readonly string[];
}

interface Kind {
  readonly name: string;
  /** The average time from one attack to the next, in milliseconds. */
  readonly every: number;
  /** The maximum number of concurrent attacks. */
  readonly most: number;
  attack(this: Enemies, tally: KindTally): Promise<void>;
}

const silenceMs = 60_000;
const addresses = 40;

const kinds: readonly Kind[] = [
  { name: 'disconnects before the headers', every: 150, most: 50, attack: leaveBeforeHeaders },
  { name: 'disconnects in the body', every: 400, most: 50, attack: leaveInBody },
  { name: 'disconnects in its own request', every: 500, most: 50, attack: leaveInRequest },
  { name: 'logs in with a wrong password', every: 250, most: 30, attack: guessPassword },
  { name: 'asks for a giant list', every: 10_000, most: 6, attack: listGiant },
  { name: 'stops reading', every: 1_600, most: 40, attack: stopReading },
  { name: 'asks a hostile upstream', every: 400, most: 60, attack: askLiar },
  { name: 'sends malformed requests', every: 600, most: 30, attack: sendGarbage },
  { name: 'sends odd requests', every: 500, most: 30, attack: askOddly },
  { name: 'lists the catalogue', every: 2_500, most: 10, attack: listCatalogue },
  { name: 'sends garbage to the cluster port', every: 700, most: 10, attack: sendToClusterPort },
  { name: 'asks for names that fail upstream', every: 1_000, most: 20, attack: askStrangeName },
  { name: 'asks for private content elsewhere', every: 1_000, most: 20, attack: askForPrivate },
  { name: 'pulls content that storage refuses', every: 1_000, most: 30, attack: pullUnreadable },
  { name: 'pulls nested indexes', every: 600, most: 4, attack: pullNested },
];

/** Hostile clients. Each kind has a pace of its own, so that the machine has time for other clients. */
export class Enemies {
  readonly random: Random;
  readonly #tallies = new Map<string, KindTally>();
  readonly #unanswered: string[] = [];
  readonly #opened: string[] = [];
  readonly #wrong: string[] = [];
  #level = 0;

  constructor(readonly task: EnemyTask) {
    this.random = randomOf(task.seed);
  }

  /** Runs until the process ends. */
  async attack(): Promise<void> {
    await Promise.all(kinds.map((kind) => this.#repeat(kind)));
  }

  result(): EnemyResult {
    return {
      kinds: Object.fromEntries(this.#tallies),
      unanswered: this.#unanswered,
      opened: this.#opened,
      wrong: this.#wrong,
    };
  }

  url(): string {
    return pick(this.random, this.task.urls);
  }

  /** A source address for one request. The mirror counts clients by address. */
  address(): string {
    return `127.0.2.${between(this.random, 1, addresses)}`;
  }

  login(): Record<string, string> {
    return { authorization: this.task.tenant };
  }

  /** The header line for a request that is written to a raw socket. */
  loginLine(): string[] {
    return [`Authorization: ${this.task.tenant}`];
  }

  nextNested(): string {
    this.#level = (this.#level + 1) % this.task.nested.length;
    return this.task.nested[this.#level] as string;
  }

  opened(text: string): void {
    this.#opened.push(text);
  }

  wrong(text: string): void {
    this.#wrong.push(text);
  }

  /** Counts the answer and returns it; `undefined` if there is none. Some clients disconnect while they wait. */
  async ask(
    tally: KindTally,
    path: string,
    options: Omit<Partial<AskOptions>, 'leave'> & { readonly leaveWithin?: number } = {},
  ): Promise<Reply | undefined> {
    const { leaveWithin, ...asked } = options;
    const leave =
      leaveWithin === undefined ? undefined : AbortSignal.timeout(between(this.random, 1, leaveWithin));
    const url = this.url() + path;
    try {
      const reply = await ask(url, {
        headers: this.login(),
        from: this.address(),
        ...asked,
        ...(leave && { leave }),
      });
      const group = `${Math.floor(reply.status / 100)}xx`;
      tally.answers[group] = (tally.answers[group] ?? 0) + 1;
      return reply;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      if (leave?.aborted === true || error.why === 'endless') tally.left += 1;
      else if (error.why === 'silent') this.#unanswered.push(error.message);
      else tally.cut += 1;
      return undefined;
    }
  }

  async #repeat(kind: Kind): Promise<never> {
    const tally: KindTally = { requests: 0, answers: {}, left: 0, cut: 0 };
    this.#tallies.set(kind.name, tally);
    let open = 0;
    for (;;) {
      await delay(between(this.random, 1, 2 * kind.every));
      if (open >= kind.most) continue;
      open += 1;
      tally.requests += 1;
      void kind.attack
        .call(this, tally)
        .catch((error: unknown) => process.stderr.write(`${kind.name}: ${String(error)}\n`))
        .finally(() => (open -= 1));
    }
  }
}

function unknownDigest(): string {
  return `sha256:${randomBytes(32).toString('hex')}`;
}

/** Opens a connection, sends the text, and closes the connection by FIN or RST after `ms` milliseconds. */
async function sendAndLeave(enemies: Enemies, url: string, text: string, ms: number): Promise<void> {
  const connection = await dial(url, enemies.address());
  connection.socket.write(text, 'latin1');
  await delay(ms);
  if (enemies.random() < 0.5) connection.socket.resetAndDestroy();
  else connection.socket.destroySoon();
}

async function leaveBeforeHeaders(this: Enemies, tally: KindTally): Promise<void> {
  const { liarHost } = this.task;
  const method = pick(this.random, ['GET', 'HEAD', 'HEAD']);
  const path = pick(this.random, [
    `/v2/honest/r1/blobs/${unknownDigest()}`,
    `/v2/honest/r2/manifests/${unknownDigest()}`,
    `/v2/honest/unknown/manifests/none`,
    `/v2/${liarHost}/stall/headers/blobs/${unknownDigest()}`,
    `/v2/${liarHost}/status/500/blobs/${unknownDigest()}`,
    `/v2/${liarHost}/stall/headers/manifests/v1`,
    `/v2/${liarHost}/cut/reset/manifests/v1`,
    `/v2/honest/r1/tags/list`,
    `/v2/honest/r1/referrers/${unknownDigest()}`,
    pick(this.random, this.task.blobs),
  ]);
  const text = get(path, this.loginLine()).replace('GET', method);
  tally.left += 1;
  await sendAndLeave(this, this.url(), text, between(this.random, 0, 40));
}

async function leaveInBody(this: Enemies, tally: KindTally): Promise<void> {
  const path = this.random() < 0.5 ? this.task.largeBlob : pick(this.random, this.task.blobs);
  const after = between(this.random, 1, 1_000_000);
  const connection = await dial(this.url(), this.address());
  const { socket } = connection;
  let received = 0;
  const leave = (): void => void (this.random() < 0.5 ? socket.resetAndDestroy() : socket.destroy());
  socket.on('data', (text: string) => {
    received += text.length;
    if (received >= after) leave();
  });
  socket.setTimeout(silenceMs, leave);
  socket.write(get(path, this.loginLine()), 'latin1');
  await connection.ended;
  if (received >= after) tally.left += 1;
}

async function leaveInRequest(this: Enemies, tally: KindTally): Promise<void> {
  const whole = get(pick(this.random, this.task.manifests), this.loginLine());
  tally.left += 1;
  await sendAndLeave(
    this,
    this.url(),
    whole.slice(0, between(this.random, 1, whole.length)),
    between(this.random, 0, 300),
  );
}

async function guessPassword(this: Enemies, tally: KindTally): Promise<void> {
  const user = pick(this.random, ['honest', 'tenant', 'admin', `user${between(this.random, 0, 1000)}`]);
  const password = randomBytes(6).toString('hex');
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  const reply = await this.ask(tally, pick(this.random, this.task.manifests), { headers: { authorization } });
  if (reply?.status === 200) this.opened(`200 for a wrong password of ${user}`);
}

async function listGiant(this: Enemies, tally: KindTally): Promise<void> {
  const path = `/v2/${this.task.liarHost}/giant/${between(this.random, 0, 40)}/tags/list`;
  await this.ask(tally, path, this.random() < 0.3 ? { leaveWithin: 2_000 } : {});
}

async function stopReading(this: Enemies, tally: KindTally): Promise<void> {
  const connection = await dial(this.url(), this.address());
  const { socket } = connection;
  socket.write(get(this.task.largeBlob, this.loginLine()), 'latin1');
  socket.once('data', () => socket.pause());
  await Promise.race([connection.ended, delay(30_000)]);
  tally.left += 1;
  socket.resetAndDestroy();
}

async function askLiar(this: Enemies, tally: KindTally): Promise<void> {
  const base = `/v2/${this.task.liarHost}/${pick(this.random, this.task.lies)}`;
  const digest = unknownDigest();
  const path = pick(this.random, [
    `/blobs/${digest}`,
    `/blobs/${digest}`,
    `/manifests/v${between(this.random, 0, 50)}`,
    `/manifests/${digest}`,
    '/tags/list',
    `/referrers/${digest}`,
  ]);
  const method = pick(this.random, ['GET', 'GET', 'HEAD']);
  const reply = await this.ask(tally, base + path, {
    method,
    ...(this.random() < 0.5 ? { leaveWithin: 4_000 } : {}),
  });
  if (method === 'GET' && reply?.status === 200 && path.includes(digest) && !path.startsWith('/referrers')) {
    this.wrong(`200 for ${base + path}, although no content has this digest`);
  }
}

const garbage = (random: Random): string =>
  pick(random, [
    randomBytes(2_000).toString('latin1'),
    `${'GET /v2/ HTTP/1.1\r\nHost: m\r\n\r\n'.repeat(50)}\0\u00ffnonsense\r\n\r\n`,
    get(
      '/v2/',
      Array.from({ length: 2_000 }, (_, index) => `X-Flood-${index}: ${'x'.repeat(20)}`),
    ),
    get(`/v2/${'a'.repeat(100_000)}/tags/list`),
    'GET /v2/ HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n',
    'POST /v2/honest/r1/blobs/uploads/ HTTP/1.1\r\nHost: m\r\nContent-Length: 1000000000\r\n\r\nabc',
    'GET /v2/ HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  ]);

async function sendGarbage(this: Enemies, tally: KindTally): Promise<void> {
  tally.left += 1;
  await sendAndLeave(this, this.url(), garbage(this.random), between(this.random, 0, 2_000));
}

async function sendToClusterPort(this: Enemies, tally: KindTally): Promise<void> {
  tally.left += 1;
  const url = pick(this.random, this.task.clusterUrls);
  await sendAndLeave(this, url, garbage(this.random), between(this.random, 0, 2_000));
}

async function askOddly(this: Enemies, tally: KindTally): Promise<void> {
  const blob = pick(this.random, this.task.blobs);
  const [path, options] = pick<readonly [string, Partial<AskOptions>]>(this.random, [
    [blob, { headers: { ...this.login(), range: 'bytes=9999999999999999-' } }],
    [blob, { headers: { ...this.login(), range: 'bytes=-0' } }],
    [blob, { headers: { ...this.login(), range: 'bytes=0-1,5-6,9-' } }],
    [blob, { headers: { ...this.login(), range: `bytes=${'0-1,'.repeat(2000)}5-6` } }],
    [blob, { headers: { ...this.login(), 'if-none-match': `${'"x",'.repeat(2000)}*` } }],
    [blob, { headers: { ...this.login(), authorization: `Basic ${'A'.repeat(8000)}` } }],
    [blob, { headers: { ...this.login(), authorization: 'Bearer a.b.c' } }],
    [blob, { headers: { ...this.login(), 'x-forwarded-for': '127.0.0.1, '.repeat(500) } }],
    [blob, { method: 'DELETE' }],
    [pick(this.random, this.task.manifests), { method: 'PUT' }],
    [pick(this.random, this.task.manifests), { method: 'DELETE' }],
    [`${pick(this.random, this.task.manifests)}?ns=%00${randomBytes(20).toString('hex')}`, {}],
    ['/v2/..%2f..%2fetc/passwd/manifests/latest', {}],
    [`/v2/honest/r1/manifests/${'%41'.repeat(500)}`, {}],
    ['/v2/honest/r1/blobs/sha256:zz', {}],
    ['/v2/honest/r1/blobs/sha512:aa', {}],
    [`/v2/honest/r1/tags/list?n=${'9'.repeat(40)}&last=%ff`, {}],
    ['/v2/honest/r1/tags/list?n=0', {}],
    ['/v2/_catalog?n=-1', {}],
    ['/metrics', {}],
    ['/debug/pprof', {}],
  ]);
  await this.ask(tally, path, options);
}

async function listCatalogue(this: Enemies, tally: KindTally): Promise<void> {
  const path = `/v2/_catalog?n=${between(this.random, 1, 1000)}`;
  await this.ask(tally, path, this.random() < 0.5 ? { leaveWithin: 300 } : {});
}

async function askStrangeName(this: Enemies, tally: KindTally): Promise<void> {
  const name = `/v2/strange/${randomBytes(4).toString('hex')}`;
  await this.ask(
    tally,
    name + pick(this.random, ['/manifests/v1', '/tags/list', `/blobs/${unknownDigest()}`]),
  );
}

/** Asks under the name of a hostile upstream that confirms everything, or under a name that this user may not pull. */
async function askForPrivate(this: Enemies, tally: KindTally): Promise<void> {
  const { path, digest, size } = pick(this.random, this.task.private);
  const names = this.task.lies.map((name) => `/v2/${this.task.liarHost}/${name}/blobs/${digest}`);
  const asked = this.random() < 0.3 ? path : pick(this.random, names);
  const method = pick(this.random, ['GET', 'GET', 'HEAD']);
  const reply = await this.ask(tally, asked, { method });
  if (reply === undefined) return;
  const whole = method === 'GET' && `sha256:${sha256(reply.body)}` === digest;
  // A hostile upstream does not know the size.
  const known = method === 'HEAD' && Number(reply.headers['content-length']) === size;
  if (reply.status === 200 && (whole || known)) this.opened(`${method} ${asked} gave the private blob`);
  if (reply.status === 307) this.opened(`${method} ${asked} led to the private blob`);
}

async function pullUnreadable(this: Enemies, tally: KindTally): Promise<void> {
  const { path, digest } = pick(this.random, this.task.unreadable);
  const reply = await this.ask(tally, path, this.random() < 0.2 ? { leaveWithin: 1_000 } : {});
  if (reply?.status === 200 && `sha256:${sha256(reply.body)}` !== digest)
    this.wrong(`${path}: the bytes do not match the digest`);
}

async function pullNested(this: Enemies, tally: KindTally): Promise<void> {
  await this.ask(tally, this.nextNested());
}
