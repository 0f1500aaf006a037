import { readFileSync } from 'node:fs';
import { getCACertificates } from 'node:tls';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import type { S3Config } from '../../config/config.js';
import type { Secret } from '../../config/secret.js';
import { secretFile, type FileLog } from '../../config/watched-file.js';
import { boundAnswers } from './bounded-answers.js';

const connectMs = 1_500;
/** Silence after which a request is given up, never a limit on its whole time: reads have a client who waits. */
const readIdleMs = 4_000;
const writeIdleMs = 30_000;

export function readingClient(config: S3Config, log: FileLog): S3Client {
  return boundAnswers(new S3Client(clientOptions(config, log, readIdleMs, 2)));
}

export function writingClient(config: S3Config, log: FileLog): S3Client {
  return boundAnswers(new S3Client(clientOptions(config, log, writeIdleMs, 3)));
}

function clientOptions(config: S3Config, log: FileLog, idleMs: number, maxAttempts: number): S3ClientConfig {
  const { endpoint, useragent } = config;
  const credentials = credentialsOf(config, log);
  const agent = { keepAlive: true, maxSockets: Infinity };
  return {
    region: config.region,
    forcePathStyle: config.forcepathstyle,
    ...(endpoint === undefined ? {} : { endpoint }),
    tls: config.secure,
    useAccelerateEndpoint: config.accelerate,
    useDualstackEndpoint: config.usedualstack,
    maxAttempts,
    logger: silent,
    ...(useragent === undefined ? {} : { customUserAgent: useragent }),
    ...(credentials === undefined ? {} : { credentials }),
    // Streams with trailing checksums are refused by Ceph RGW (411), and content is verified by its own digest.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It would take a new connection for each part.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: idleMs,
      httpAgent: agent,
      httpsAgent: { ...agent, ...tlsOptions(config) },
    },
  };
}

type Provider = Extract<S3ClientConfig['credentials'], () => unknown> & { memoized?: boolean };

/** Asked before each request: what is in files is read again when it changes. `undefined`: the usual places. */
function credentialsOf(config: S3Config, log: FileLog): Provider | undefined {
  const accesskey = secretOf(config.accesskey, config.accesskeyfile, log);
  const secretkey = secretOf(config.secretkey, config.secretkeyfile, log);
  const sessiontoken = secretOf(config.sessiontoken, config.sessiontokenfile, log);
  if (accesskey === undefined || secretkey === undefined) return undefined;
  const provider: Provider = async () => ({
    accessKeyId: await accesskey(),
    secretAccessKey: await secretkey(),
    ...(sessiontoken === undefined ? {} : { sessionToken: await sessiontoken() }),
  });
  // Or the SDK would keep the first answer for good.
  provider.memoized = true;
  return provider;
}

function secretOf(
  given: Secret | undefined,
  path: string | undefined,
  log: FileLog,
): (() => Promise<string>) | undefined {
  if (given !== undefined) return () => Promise.resolve(given.reveal());
  if (path === undefined) return undefined;
  const file = secretFile(path, log);
  return () => file.read();
}

/** How its connections over TLS are checked. */
export function tlsOptions({ ca, skipverify }: S3Config): { rejectUnauthorized: boolean; ca?: string[] } {
  return {
    rejectUnauthorized: !skipverify,
    ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), readFileSync(ca, 'utf8')] }),
  };
}

/** What goes wrong is thrown, and told once by whoever asked; the SDK would write to the console as well. */
const silent: NonNullable<S3ClientConfig['logger']> = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
