import 'reflect-metadata';
import { setTimeout as sleep } from 'node:timers/promises';
import { Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Administration } from '../admin/admin.js';
import { Operations } from '../admin/operations.js';
import { AppModule } from '../app.module.js';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER } from '../cluster/cluster.module.js';
import { ConfigModule } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { RECORD_STORE, StorageModule } from '../storage/storage.module.js';
import type { RecordStore } from '../storage/storage.js';
import { NestLogger } from '../telemetry/nest-logger.js';
import type { Logger } from '../telemetry/log.js';
import { TelemetryModule } from '../telemetry/telemetry.module.js';
import { prepareStore } from './prepare-store.js';

/** A configured Redis is waited for so long: what other replicas do decides what may be done here. */
const redisMs = 3_000;
const lookMs = 50;

@Module({})
class RecordsModule {}

/** The mirror's storage alone. */
export async function openRecords(
  config: Config,
  log: Logger,
): Promise<AsyncDisposable & { readonly records: RecordStore }> {
  const module = {
    module: RecordsModule,
    imports: [ConfigModule.for(config), TelemetryModule.for(log), StorageModule],
  };
  const context = await NestFactory.createApplicationContext(module, options(log));
  return { records: context.get<RecordStore>(RECORD_STORE), [Symbol.asyncDispose]: () => context.close() };
}

/** All of a mirror but its ports and its schedules. Throws StorageError, IdentityConflict. */
export async function openMirror(
  config: Config,
  log: Logger,
  signal: AbortSignal,
): Promise<AsyncDisposable & { readonly administration: Administration }> {
  const context = await NestFactory.createApplicationContext(AppModule.for(config, log), options(log));
  try {
    await prepareStore(context, config, log);
    await untilRedisAnswers(context, signal);
  } catch (error) {
    await context.close();
    throw error;
  }
  return { administration: context.get(Operations), [Symbol.asyncDispose]: () => context.close() };
}

async function untilRedisAnswers(context: INestApplicationContext, signal: AbortSignal): Promise<void> {
  const cluster = context.get<Cluster>(CLUSTER);
  const until = performance.now() + redisMs;
  while ((await cluster.memoryMs()) === undefined && performance.now() < until) {
    signal.throwIfAborted();
    await sleep(lookMs);
  }
}

function options(log: Logger): { logger: NestLogger; abortOnError: false } {
  return { logger: new NestLogger(log), abortOnError: false };
}
