import { Agent, get } from 'node:http';

/**
 * Clients with wrong passwords, in a process of their own. Each has one connection and an address of its own, sends a
 * wrong password, waits for the answer, and sends the next one at once. It ignores `Retry-After`.
 */
const { url, user, addresses } = JSON.parse(process.argv[2] ?? '') as {
  readonly url: string;
  readonly user: string;
  readonly addresses: readonly string[];
};

const answers: Record<string, number> = {};
let guesses = 0;

function guess(agent: Agent, localAddress: string): Promise<number | undefined> {
  guesses += 1;
  const authorization = `Basic ${Buffer.from(`${user}:wrong ${guesses}`).toString('base64')}`;
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  get(url, { agent, localAddress, headers: { authorization } }, (response) => {
    response.once('end', () => resolve(response.statusCode)).once('error', reject);
    response.resume();
  }).once('error', reject);
  return promise;
}

async function guessOn(localAddress: string): Promise<never> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (;;) {
    const status = String(await guess(agent, localAddress));
    answers[status] = (answers[status] ?? 0) + 1;
  }
}

process.once('SIGTERM', () => process.stdout.write(`${JSON.stringify(answers)}\n`, () => process.exit(0)));
process.stdout.write('at work\n');
await Promise.all(addresses.map(guessOn));
