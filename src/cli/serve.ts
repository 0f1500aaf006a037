import 'reflect-metadata';
import type { Socket } from 'node:net';
import { Server as SecureServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { DynamicModule } from '@nestjs/common';
import { pause } from '../async/wait.js';
import { AdminAccess } from '../admin/access.js';
import { AdminModule } from '../admin/admin.module.js';
import { Operations } from '../admin/operations.js';
import { AppModule } from '../app.module.js';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER } from '../cluster/cluster.module.js';
import { PeerServer, type ObserveStream } from '../cluster/peers/peer-server.js';
import type { Config, HttpConfig } from '../config/config.js';
import { DebugModule } from '../health/health.module.js';
import { Health } from '../health/health.js';
import { StatusReport } from '../health/status.js';
import { InUseWatches } from '../inuse/in-use-watches.js';
import { Siblings } from '../proxy/siblings.js';
import { Transfers } from '../proxy/transfers.js';
import { BodySender } from '../registry/body-sender.js';
import type { FastLane } from '../registry/fast-lane.js';
import { RegistryHandler } from '../registry/registry-handler.js';
import { FAST_LANE } from '../registry/registry.module.js';
import { Scheduler } from '../scheduler/scheduler.js';
import { StorageError } from '../storage/storage.js';
import { NestLogger } from '../telemetry/nest-logger.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import type { Telemetry } from '../telemetry/telemetry.module.js';
import { startTracing } from '../telemetry/tracing-start.js';
import type { PullSecrets } from '../upstream/pull-secrets.js';
import { PULL_SECRETS, UPSTREAMS, type Upstreams } from '../upstream/upstream.module.js';
import { closeGracefully, createHttpServer, listen, listenPrivately } from './http-server.js';
import { surviveUnhandledErrors } from './last-resort.js';
import { prepareStore } from './prepare-store.js';

/** The storage is asked so often for the key of the admin API, while it cannot be used. */
const adminKeyMs = 10_000;

/** A mirror that runs. */
export interface RunningMirror {
  /** Stops taking work, lets open work end, and ends. `delay`: first let load balancers notice. */
  drain(delay: boolean): Promise<void>;
}

/** Starts the mirror. Throws before any port is open, or when one cannot be opened. */
export async function serve(config: Config, log: Logger): Promise<RunningMirror> {
  const metrics = new Metrics();
  surviveUnhandledErrors(log, metrics);
  const tracing = await startTracing(process.env, log);
  const module = AppModule.for(config, log, { metrics, tracing });
  const ends = (atMs: number): void => metrics.certificateExpiry.set(atMs / 1000);
  const app = await createApplication(module, { ...config.http, ends }, log, (framework) => {
    const headers = Object.entries(config.http.headers);
    const { prefix } = config.http;
    return (request, response) => {
      for (const [name, values] of headers) response.setHeader(name, values);
      if (isRegistryPath(request.url ?? '', prefix)) registry.handle(request, response);
      else framework(request, response);
    };
  });
  const registry = app.application.get(RegistryHandler);
  const lane = app.application.get<FastLane | undefined>(FAST_LANE);
  if (lane !== undefined) watchConnections(app.server, lane);
  const health = app.application.get(Health);
  const scheduler = app.application.get(Scheduler);
  const inUse = app.application.get(InUseWatches);
  app.application.get<PullSecrets | undefined>(PULL_SECRETS)?.start();
  await prepareStore(app.application, config, log, () => startJobs(scheduler, inUse, config, log));
  const peers = await startClusterServer(app.application, config, { metrics, tracing }, log);
  const admin = AdminModule.for(app.application.get(Operations), app.application.get(AdminAccess));
  const debug =
    (await startDebugServer(app.application, config, metrics, admin, log)) ??
    (await startAdminSocket(config, app.application.get(AdminAccess), admin, log));
  const address = await listen(app.server, config.http);
  log.info({ address, tls: config.http.tls !== undefined, pid: process.pid }, 'listening');

  return {
    drain: async (delay) => {
      const { draindelay, draintimeout } = config.http;
      health.drain();
      app.application.get(Siblings).stop();
      lane?.close();
      log.info({ delayMs: delay ? draindelay : 0, timeoutMs: draintimeout }, 'draining');
      // Others go on with them at once.
      const jobs = Promise.all([
        scheduler.stop(AbortSignal.timeout(draindelay + draintimeout)),
        inUse.stop(),
      ]);
      if (delay) await sleep(draindelay);
      const timeout = AbortSignal.timeout(draintimeout);
      const transfers = app.application.get(Transfers).idle(timeout);
      await lane?.sent(timeout); // the server takes their connections for idle ones
      const sender = app.application.get(BodySender);
      timeout.addEventListener('abort', () => sender.cutUnframed()); // runs before the server closes all connections
      await Promise.all([closeGracefully(app.server, timeout), transfers, jobs]);
      await app.application.close();
      await Promise.all([debug.close(), peers?.close()]);
      await tracing?.close();
      log.info('stopped');
    },
  };
}

/** Commands may do the work of jobs whatever is said here. */
function startJobs(scheduler: Scheduler, inUse: InUseWatches, config: Config, log: Logger): void {
  if (!config.storage.delete.enabled) log.info('nothing is deleted: storage.delete.enabled is false');
  inUse.start();
  if (config.scheduler.enabled) scheduler.start();
  else log.info('no job is run: scheduler.enabled is false');
}

/** After the server, which hears of them first. */
function watchConnections(server: Server, lane: FastLane): void {
  const opened = server instanceof SecureServer ? 'secureConnection' : 'connection';
  server.on(opened, (socket: Socket) => lane.watch(socket));
}

function isRegistryPath(url: string, prefix: string): boolean {
  return url.startsWith('/v2') || (prefix !== '/' && url.startsWith(prefix));
}

interface Application {
  readonly application: NestFastifyApplication;
  readonly server: Server;
}

/** A framework application on a server of ours, whose requests `front` sees first. */
async function createApplication(
  module: DynamicModule,
  http:
    | (Pick<HttpConfig, 'tls' | 'limits' | 'trustedproxies'> & { readonly ends: (atMs: number) => void })
    | undefined,
  log: Logger,
  front: (framework: RequestListener) => RequestListener,
): Promise<Application> {
  let listener: RequestListener = refuse;
  const server = createHttpServer(
    http?.tls,
    (request, response) => listener(request, response),
    log,
    http,
    http?.ends,
  );
  const adapter = new FastifyAdapter({
    serverFactory: (framework: RequestListener) => {
      listener = front(framework);
      return server;
    },
  });
  const application = await NestFactory.create<NestFastifyApplication>(module, adapter, {
    logger: new NestLogger(log),
    abortOnError: false,
    bodyParser: false,
  });
  await application.init();
  await application.getHttpAdapter().getInstance().ready();
  return { application, server };
}

function refuse(_request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(503).end();
}

/** The port for other replicas; a plain server, because nothing else may be reached through it. */
async function startClusterServer(
  app: NestFastifyApplication,
  { redis, cluster: { addr } }: Config,
  telemetry: Telemetry,
  log: Logger,
): Promise<{ close(): Promise<void> } | undefined> {
  if (redis === undefined) return undefined;
  const cluster = app.get<Cluster>(CLUSTER);
  const transfers = app.get(Transfers);
  const handler = new PeerServer(
    () => cluster.peers?.seals() ?? [],
    (attempt) => transfers.peerSpool(attempt),
    log,
    observeStreams(telemetry),
  );
  const server = createHttpServer(undefined, (request, response) => handler.handle(request, response), log);
  const address = await listen(server, { net: 'tcp', addr });
  log.info({ address, advertised: cluster.peers?.url() }, 'cluster server listens');
  return { close: () => closeGracefully(server, AbortSignal.abort()) };
}

function observeStreams({ metrics: { peerStreams, peerSentBytes }, tracing }: Telemetry): ObserveStream {
  return (digest, { traceparent }) => {
    peerStreams.inc();
    const attributes = { 'cistern.digest': digest };
    const span = tracing?.begin('peer stream', { kind: 'server', parent: traceparent, attributes });
    let total = 0;
    return {
      sent: (bytes) => {
        total += bytes;
        peerSentBytes.inc(bytes);
      },
      ended: (failure) => {
        peerStreams.dec();
        span?.set({ 'cistern.bytes': total });
        span?.end(failure);
      },
    };
  };
}

async function startDebugServer(
  app: NestFastifyApplication,
  config: Config,
  metrics: Metrics,
  admin: DynamicModule,
  log: Logger,
): Promise<{ close(): Promise<void> } | undefined> {
  const { debug } = config.http;
  if (debug === undefined) return undefined;
  const health = app.get(Health);
  const status = new StatusReport({
    health,
    metrics,
    upstreams: [...app.get<Upstreams>(UPSTREAMS).values()],
    transfers: app.get(Transfers),
    cluster: app.get<Cluster>(CLUSTER),
    scheduler: app.get(Scheduler),
    driver: config.storage.driver,
  });
  const { application, server } = await createApplication(
    DebugModule.for(debug, { health, metrics, status }, admin),
    undefined,
    log,
    (framework) => framework,
  );
  const address = await listen(server, { net: 'tcp', addr: debug.addr });
  log.info({ address }, 'debug server listens');
  return { close: () => application.close() };
}

/** The admin API where there is no debug port. Its path depends on the storage, which may be away for now. */
async function startAdminSocket(
  config: Config,
  access: AdminAccess,
  admin: DynamicModule,
  log: Logger,
): Promise<{ close(): Promise<void> }> {
  const { application, server } = await createApplication(admin, undefined, log, (framework) => framework);
  const closing = new AbortController();
  void listenForAdministrators(server, config.http.addr, access, closing.signal, log);
  return {
    close: async () => {
      closing.abort();
      await closeGracefully(server, AbortSignal.abort()); // which also removes the socket
      await application.close();
    },
  };
}

async function listenForAdministrators(
  server: Server,
  address: string,
  access: AdminAccess,
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const key = await access.key();
      if (key !== undefined) {
        const path = key.socketFor(address);
        await listenPrivately(server, path);
        log.info({ path }, 'admin socket listens');
        return;
      }
    } catch (err) {
      if (!(err instanceof StorageError)) {
        log.error({ err }, 'the admin socket cannot be opened: commands will not reach this mirror');
        return;
      }
    }
    await pause(adminKeyMs, signal);
  }
}
