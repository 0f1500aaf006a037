import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import type { S3Config } from '../../config/config.js';

const connectMs = 1_500;
/** Silence after which a request is given up, never a limit on its whole time: reads have a client who waits. */
const readIdleMs = 4_000;
const writeIdleMs = 30_000;

export function readingClient(config: S3Config): S3Client {
  return new S3Client(clientOptions(config, readIdleMs, 2));
}

export function writingClient(config: S3Config): S3Client {
  return new S3Client(clientOptions(config, writeIdleMs, 3));
}

function clientOptions(config: S3Config, idleMs: number, maxAttempts: number): S3ClientConfig {
  const { accesskey, secretkey, sessiontoken, endpoint, useragent } = config;
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
    ...(accesskey === undefined || secretkey === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: accesskey.reveal(),
            secretAccessKey: secretkey.reveal(),
            ...(sessiontoken === undefined ? {} : { sessionToken: sessiontoken.reveal() }),
          },
        }),
    // Streams with trailing checksums are refused by Ceph RGW (411), and content is verified by its own digest.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It would take a new connection for each part.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: idleMs,
      httpAgent: agent,
      httpsAgent: { ...agent, rejectUnauthorized: !config.skipverify },
    },
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
