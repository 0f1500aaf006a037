import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import type { TlsConfig } from '../config/config.js';
import { versionOf } from '../config/watched-file.js';
import type { Logger } from '../telemetry/log.js';

/** How often the files are looked at. A new pair is taken at the second look that finds it the same. */
const lookMs = 1_000;

/** What the files say now. @throws where one of them cannot be read. */
export function readCertificates({
  certificate,
  key,
  minimumtls,
  clientcas,
}: TlsConfig): SecureContextOptions & { readonly cert: Buffer } {
  return {
    cert: readFileSync(certificate),
    key: readFileSync(key),
    minVersion: minimumtls ?? 'TLSv1.2',
    ...(clientcas.length === 0 ? {} : { ca: clientcas.map((file) => readFileSync(file)) }),
  };
}

/** When a server's own certificate ends, in milliseconds since 1970: the first of its file. */
export function endOf({ cert }: { readonly cert: Buffer }): number {
  return new X509Certificate(cert).validToDate.getTime();
}

/** The files that {@link readCertificates} reads. */
function filesOf({ certificate, key, clientcas }: TlsConfig): string[] {
  return [certificate, key, ...clientcas];
}

/**
 * Has a server take its certificate and key from the files again when they change. Connections that stand go on with
 * what they have. A pair that cannot be used is told once, and the one before it stays; `ends` is told of each that is used.
 * Ends when the signal aborts.
 */
export function followCertificates(
  server: Server,
  tls: TlsConfig,
  log: Logger,
  ends: (atMs: number) => void,
  signal: AbortSignal,
): void {
  const files = filesOf(tls);
  const follower = new Follower(
    async () => (await Promise.all(files.map((file) => versionOf(file)))).join(),
    () => {
      const certificates = readCertificates(tls);
      server.setSecureContext(certificates);
      ends(endOf(certificates));
    },
    log,
  );
  void follower.look();
  const timer = setInterval(() => void follower.look(), lookMs).unref();
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
}

export class Follower {
  #handled: string | undefined;
  #seen: string | undefined;

  constructor(
    /** Another one for each state of the files. Rejects while one of them is not there. */
    private readonly version: () => Promise<string>,
    /** @throws where the files cannot be used. */
    private readonly take: () => void,
    private readonly log: Pick<Logger, 'info' | 'error'>,
  ) {}

  /** The first look remembers what the server began with. Never rejects. */
  async look(): Promise<void> {
    // A file that is missing between two others is a state like another: not to be taken, and told if it lasts.
    const version = await this.version().catch((error: unknown) => String(error));
    this.#handled ??= version;
    const settled = version === this.#seen;
    this.#seen = version;
    if (!settled || version === this.#handled) return;
    this.#handled = version;
    try {
      this.take();
      this.log.info('the certificate has changed, the new one is used');
    } catch (err) {
      this.log.error({ err }, 'the certificate has changed and cannot be used, the one before it stays');
    }
  }
}
